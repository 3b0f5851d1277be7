"""The page as a browser's parser sees it: what it shows, that it is inert, bounded, readable and the same each time."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from episodes import Episode, Results, evaluate
from episodes.errors import DataError
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.images.transform import clip_pixels
from fewshot.predict import Prediction
from fewshot.report import write_prediction_report
from fewshot.report.details import MOST_QUERIES, MOST_TASKS
from fewshot.report.page import MOST_ROWS, TEMPLATES
from fewshot.report.thumbnails import SIDE
from tests.report.conftest import METHOD, Element, Page


def written(prediction: Prediction, folder: Path, **options: object) -> Page:
    path = folder / "report.html"
    settings = {"backbone": "tiny", "classifier": "prototype", "method": METHOD} | options
    write_prediction_report(prediction, path, **settings)  # type: ignore[arg-type]
    return Page(path.read_text(encoding="utf-8"))


def queries(page: Page) -> list[Element]:
    return page.all("figure", "query")


def assert_inert(page: Page) -> None:
    """Nothing that runs, loads, submits or leads away."""
    allowed = {"main", "header", "section", "footer", "details", "summary", "div", "span", "figure", "figcaption", "img", "i",
               "b", "small", "p", "ul", "li", "dl", "dt", "dd", "h1", "h2", "h3", "h4", "table", "thead", "tbody", "tr", "th",
               "td", "wbr", "html", "head", "body", "meta", "title", "style"}  # fmt: skip
    for element in page.elements:
        assert element.tag in allowed, element
        assert not [key for key in element.attributes if key.startswith("on") or key in ("href", "srcset", "action")]
        assert element.attributes.get("src", "data:image/").startswith("data:image/")
    policy = [e for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert policy and policy[0].attributes["content"].startswith("default-src 'none'; img-src data:;")
    assert not re.search(r"url\(|@import|https?:", page.all("style")[0].text)


def test_it_says_what_was_done_and_how_it_went(prediction: Prediction, tmp_path: Path) -> None:
    page = written(prediction, tmp_path, backbone="ViT-B/32", checkpoint="runs/first", calibrated=True)
    assert_inert(page)
    results = prediction.results
    for fact in (
        "36 query pictures of 3 tasks", "ViT-B/32", "runs/first", "tuned", "inductive", "mean confidence, calibrated",
        f"{100 * results.mean:.1f} %", f"{100 * float(results.confidence.mean()):.1f} %", "0 unreadable",
    ):  # fmt: skip
        assert fact.replace("\u00a0", " ") in page.text.replace("\u00a0", " "), fact
    assert "uncalibrated" not in page.text
    rows = [e.text for e in page.all("table", "tasks")]
    for name, accuracy in zip(results.names, results.accuracy, strict=True):
        assert name in rows[0] and f"{100 * accuracy:.1f}" in rows[0]
    assert page.all("table", "matrix") and all(e.attributes.get("alt") for e in page.all("img"))


def test_settings_change_what_it_says(prediction: Prediction, tmp_path: Path) -> None:
    page = written(prediction, tmp_path, method=None, classifier="bdcspn")
    assert "transductive" in page.text and "uncalibrated" in page.text and "untouched tiny" in page.text
    assert "no estimate without labels" in page.text and "looks like" not in page.text
    assert "untouched: tuning was not surely better" in written(prediction, tmp_path, checkpoint="c", tuned=False).text


def test_each_query_stands_with_its_answer_the_least_confident_first(prediction: Prediction, tmp_path: Path) -> None:
    page = written(prediction, tmp_path)
    shown, start = queries(page), 0
    frame = prediction.frame
    for name in prediction.results.names:
        rows = frame[frame.task == name].sort_values("confidence", kind="stable")
        for (_, row), figure in zip(rows.iterrows(), shown[start : start + len(rows)], strict=True):
            title = figure.attributes["title"].replace("\u00a0", " ")
            assert title.startswith(f"{row.image}: named {row.label}, confidence {100 * row.confidence:.1f} %")
            right = row.label == row.truth
            assert ("right-one" in figure.classes, "wrong" in figure.classes) == (right, not right)
            assert ("✓" in figure.text, "✗" in figure.text) == (right, not right)  # not by colour alone
            assert right or f"is {row.truth}" in figure.text
        start += len(rows)
    assert start == len(shown)
    assert len(page.all("details", "card")) == 2 + 3  # both tables, and each task


def test_without_truth_nothing_is_right_or_wrong(
    make_tasks: Callable[..., Path], name_tasks: Callable[..., Prediction], tmp_path: Path
) -> None:
    page = written(name_tasks(make_tasks(tmp_path / "t"), find_truth=False), tmp_path)
    assert len(queries(page)) == 36
    assert not [e for e in page.all("figure") if e.classes & {"wrong", "right-one"}]
    assert not page.all("table", "matrix") and "accuracy, mean over" not in page.text and "✗" not in page.text


def test_names_are_text_whatever_they_are(
    make_tasks: Callable[..., Path], name_tasks: Callable[..., Prediction], tmp_path: Path
) -> None:
    tasks = make_tasks(tmp_path / "t", tasks=1) / "testB"
    task = tasks.rename(tasks.parent / "plain") / "task1"
    evil = ["<script>alert(1)<", '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}'&amp;"]
    for folder, name in zip(sorted((task / "support").iterdir()), evil, strict=True):
        folder.rename(folder.with_name(name))
    first = min((task / "query").iterdir())
    first.rename(first.with_name(f"{evil[1]}.png"))
    broken = task / "query" / "<b onclick=x>.png"
    broken.write_bytes(b"")
    task = task.rename(task.with_name("<iframe src=javascript:alert(1)>"))
    prediction = name_tasks(task, find_truth=False)
    page = written(prediction, tmp_path, backbone=evil[0], checkpoint=evil[1], classifier=evil[2])
    assert_inert(page)
    for name in (*evil, task.name, broken.name):
        assert name in page.text
    assert {e.text for e in page.all("h2") if "iframe" in e.text} == {task.name}
    heads = [e.text.strip() for e in page.all("h4")]
    assert heads == sorted(evil)


def test_what_cannot_be_read_is_named(
    make_tasks: Callable[..., Path], name_tasks: Callable[..., Prediction], tmp_path: Path
) -> None:
    tasks = make_tasks(tmp_path / "t") / "testB"
    query = min((tasks / "task1" / "query").iterdir())
    query.write_bytes(b"no picture")
    lost = min((tasks / "task2" / "support").iterdir())
    for file in lost.iterdir():
        file.write_bytes(b"")
    for folder in (tasks / "task3" / "support").iterdir():
        shutil.rmtree(folder)
    prediction = name_tasks(tasks, find_truth=False)
    page = written(prediction, tmp_path)
    (warning,) = page.all("section", "warning")
    assert str(query) in warning.text and "the file is empty" in warning.text
    assert re.search(rf"task2: {lost.name}\b", " ".join(warning.text.split()))
    assert "4 unreadable; 13 queries without an answer" in page.text
    assert [e.text.strip() for e in page.all("div", "missing")] == ["cannot be read"] * 4
    assert sum("no answer" in figure.text for figure in queries(page)) == 13


def test_the_same_prediction_gives_the_same_bytes(
    prediction: Prediction, name_tasks: Callable[..., Prediction], tmp_path: Path
) -> None:
    again = name_tasks(Path(str(prediction.table.items[0])).parents[3].parent)
    assert written(prediction, tmp_path).source == written(again, tmp_path).source


def test_thumbnails_are_what_the_encoder_sees(prediction: Prediction, tmp_path: Path) -> None:
    pictures = [e for e in written(prediction, tmp_path).all("img") if "Query" in e.attributes["alt"]]
    assert len(pictures) == 36
    name = re.match(r"Query (\S+),", pictures[0].attributes["alt"])
    head, body = pictures[0].attributes["src"].split(",")
    thumbnail = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB")).astype(float)
    assert thumbnail.shape == (SIDE, SIDE, 3) and head == "data:image/webp;base64" and name is not None
    (path,) = Path(str(prediction.table.items[0])).parents[3].glob(f"task1/query/{name[1]}")
    expected = clip_pixels(path.read_bytes(), SIDE).transpose(1, 2, 0)
    assert np.abs(thumbnail.mean((0, 1)) - expected.mean((0, 1))).max() < 4


def test_pictures_keep_within_their_budget_and_what_is_left_out_is_told(prediction: Prediction, tmp_path: Path) -> None:
    everything = written(prediction, tmp_path)
    size = sum(len(e.attributes["src"]) for e in everything.all("img"))
    page = written(prediction, tmp_path, picture_bytes=size - 1)
    assert sum(len(e.attributes["src"]) for e in page.all("img")) < size
    assert "The 2 tasks with the lowest mean confidence are shown" in page.text
    assert "1 more confident one left out" in page.text
    means = prediction.frame.groupby("task").confidence.mean()
    assert means.idxmax() not in {e.text for e in page.all("h2")}
    none = written(prediction, tmp_path, picture_bytes=0)
    assert not none.all("img") and "The 0 tasks" in none.text and "3 more confident ones left out" in none.text


def test_thousands_of_tasks_make_no_larger_page(prediction: Prediction, tmp_path: Path) -> None:
    base = prediction.episodes[0]
    many = [dataclasses.replace(base, name=f"task{i}") for i in range(1, 3001)]
    results = evaluate(many, FeatureScorer(prediction.embeddings, METHOD))
    page = written(dataclasses.replace(prediction, episodes=many, results=results), tmp_path, method=None,
                   picture_bytes=400_000)  # fmt: skip
    assert len(page.source) < 2_500_000
    assert (
        f"The {MOST_ROWS} tasks with the lowest mean confidence are listed; 2,500 more confident ones left out"
        in page.text
    )
    assert "36,000 query pictures of 3,000 tasks" in page.text
    assert len(page.all("details")) <= MOST_TASKS + 2
    assert len(page.all("table", "tasks")[0].text.split("task")) > MOST_ROWS


def test_a_task_with_very_many_queries_shows_the_least_confident(prediction: Prediction, tmp_path: Path) -> None:
    base = prediction.episodes[0]
    episode = Episode("big", base.class_names, base.support, base.support_labels, np.repeat(base.query, 20),
                      None if base.query_labels is None else np.repeat(base.query_labels, 20))  # fmt: skip
    results: Results = evaluate([episode], FeatureScorer(prediction.embeddings, METHOD))
    page = written(dataclasses.replace(prediction, episodes=[episode], results=results), tmp_path)
    shown = queries(page)
    assert len(shown) == MOST_QUERIES
    wrong = (results.predicted != results.truth).sum() - sum("wrong" in e.classes for e in shown)
    assert f"180 more confident queries left out, {wrong or 'none'} of them wrong" in page.text


def test_a_place_that_cannot_be_written_is_named(prediction: Prediction, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        write_prediction_report(prediction, tmp_path / "no" / "r.html", backbone="tiny", classifier="prototype")


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(theme: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", (TEMPLATES / "style.html").read_text(encoding="utf-8"), re.DOTALL)
    colours: dict[str, str] = {}
    for block in blocks[: 1 if theme == "light" else 2]:
        colours |= dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
    pairs = [("text", "page"), ("text", "card"), ("text", "faint"), ("soft", "page"), ("soft", "card"), ("soft", "faint"),
             ("good", "good-soft"), ("bad", "bad-soft"), ("bad", "card"), ("warn", "warn-soft"), ("warn", "card")]  # fmt: skip
    for front, back in pairs:
        high, low = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{front} on {back}"
