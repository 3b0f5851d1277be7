"""What objects show in a notebook, cell by cell, read back as a browser's parser sees it."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes import Episode, EpisodeSampler, ImageTable, Results, read_class_folders
from episodes.notebook import Markup, table, thumbnails


class Cells(HTMLParser):
    """Caption and cells of one table; a picture stands as its title, its bytes in `pictures`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.caption, self.rows, self.pictures = "", list[list[str]](), dict[str, bytes]()
        self._tag = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._tag = tag
        elif tag == "caption":
            self._tag = tag
        elif tag == "img":
            known = {key: value or "" for key, value in attrs}
            assert known["alt"] == known["title"]
            self.rows[-1][-1] += f"[{known['title']}]"
            self.pictures[known["title"]] = base64.b64decode(known["src"].removeprefix("data:image/jpeg;base64,"))

    def handle_data(self, data: str) -> None:
        if self._tag == "caption":
            self.caption += data
        else:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._tag = "" if tag == "caption" else self._tag


@pytest.fixture
def folders(tmp_path: Path) -> ImageTable:
    """Twelve classes of three to fourteen pictures; those of the first are 300 x 100."""
    for label in range(12):
        folder = tmp_path / "all" / f"c{label:02}"
        folder.mkdir(parents=True)
        for number in range(3 + label):
            Image.new("RGB", (300, 100) if label == 0 else (8, 8), (20 * label, 0, 0)).save(folder / f"{number}.png")
    return read_class_folders(tmp_path / "all")


def test_a_table_shows_ten_classes_and_five_pictures_of_each(folders: ImageTable) -> None:
    shown = Cells(folders._repr_html_())
    assert shown.caption == f"{folders.summary()}; 2 more classes"
    assert shown.rows[0] == ["class", "pictures", ""] and len(shown.rows) == 1 + 10
    for label, (name, count, pictures) in enumerate(shown.rows[1:]):
        listed = "".join(f"[{folders.image_name(row)}]" for row in folders.rows_of(label)[:5].tolist())
        more = f" … {label - 2} more" if label > 2 else ""
        assert (name, count, pictures) == (f"c{label:02}", str(3 + label), listed + more)
    few = ImageTable(folders.paths([0, 1]), np.zeros(2, int), ("all",))
    assert Cells(few._repr_html_()).caption == few.summary()


def test_a_sampler_shows_its_first_episode_and_an_episode_its_numbers(folders: ImageTable) -> None:
    sampler = EpisodeSampler(folders, ways=11, shots=1, queries=2, episodes=3)
    first, shown = sampler[0], Cells(sampler._repr_html_())
    assert shown.caption == f"{repr(sampler)[1:-1]}; the first of them:" and first.query_labels is not None
    assert shown.rows[0] == ["class", "support", "query"] and len(shown.rows) == 1 + 10
    for label, row in enumerate(shown.rows[1:]):
        parts = [first.support[first.support_labels == label], first.query[first.query_labels == label]]
        pictures = ["".join(f"[{folders.image_name(i)}]" for i in part.tolist()) for part in parts]
        assert row == [first.class_names[label], *pictures]
    numbers = Cells(first._repr_html_())
    assert numbers.caption == repr(first)[1:-1]
    assert numbers.rows == [["class", "support", "query"], *([name, "1", "2"] for name in first.class_names)]
    hidden = Episode("t", ("a", "b"), np.array([0, 1, 2]), np.array([0, 1, 1]), np.array([3]))
    assert Cells(hidden._repr_html_()).rows[1:] == [["a", "1", "?"], ["b", "2", "?"]]


def test_results_show_the_worst_first_and_unknown_ones_last() -> None:
    truth = np.array([0, 0, 0, 0, -1, -1, 0])
    episode, predicted = np.array([0, 0, 1, 1, 2, 2, 3]), np.array([0, 1, 0, 0, 0, 0, 1])
    names = ("half", "all", "hidden", "none")
    results = Results(names, ("a", "b"), episode, np.arange(7), predicted, truth, np.ones(7, np.float32))
    shown = Cells(results._repr_html_())
    assert shown.caption == f"{results.summary()}; the worst:"
    assert shown.rows == [
        ["episode", "queries", "accuracy"],
        ["none", "1", "0.0%"],
        ["half", "2", "50.0%"],
        ["all", "2", "100.0%"],
        ["hidden", "2", "unknown"],
    ]
    many = np.repeat(np.arange(12), 2)
    none = Results(
        [str(i) for i in range(12)], ("a", "b"), many, many, np.zeros(24, int), np.tile([0, 1], 12), np.ones(24)
    )
    assert [row[0] for row in Cells(none._repr_html_()).rows[1:]] == [str(i) for i in range(10)]  # in their order


def test_thumbnails_are_small_and_upright_and_what_is_no_picture_goes_by_its_name(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (1200, 600), (200, 30, 30)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGBA", (9, 5), (200, 30, 30, 255)).save(tmp_path / "alpha.png")  # which JPEG has not got
    (tmp_path / "broken.png").write_bytes(b"no picture")
    paths = [tmp_path / name for name in ("turned.jpg", "alpha.png", "broken.png", "gone.png")]
    shown = Cells(table((), [[thumbnails(ImageTable(paths, np.zeros(4, int), ("all",)), [0, 1, 2, 3])]]))
    assert shown.rows == [["[turned.jpg][alpha.png]broken.png gone.png "]]
    small = Image.open(io.BytesIO(shown.pictures["turned.jpg"]))
    assert small.format == "JPEG" and small.size == (32, 64)
    np.testing.assert_allclose(np.asarray(small)[16, 16], (200, 30, 30), atol=8)


def test_only_markup_is_not_escaped() -> None:
    text = table(("<th>",), [("<td>", Markup("<b>x</b>"))], "<caption>")
    assert "&lt;th&gt;" in text and "&lt;td&gt;" in text and "&lt;caption&gt;" in text and "<b>x</b>" in text
    assert table((), []) == "<table></table>"
