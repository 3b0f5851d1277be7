"""The page as a browser's parser sees it: what it shows, that it is inert, bounded, readable and the same each time."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
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
from fewshot.report.document import as_script_data
from fewshot.report.estimate import estimate_task
from fewshot.report.page import TEMPLATES
from fewshot.report.pictures import MOST_ROWS
from fewshot.report.selection import MOST_QUERIES
from fewshot.report.thumbnails import SIDE
from tests.report.conftest import METHOD, Page


def written(prediction: Prediction, folder: Path, **options: object) -> Page:
    path = folder / "report.html"
    settings = {"backbone": "tiny", "classifier": "prototype", "method": METHOD} | options
    write_prediction_report(prediction, path, **settings)  # type: ignore[arg-type]
    return Page(path.read_text(encoding="utf-8"))


@dataclasses.dataclass(frozen=True)
class Shown:
    """An answer as the page's script reads it."""

    task: str
    picture: int
    name: str
    label: str
    truth: str | None
    sure: float


def answers(page: Page) -> list[Shown]:
    data = page.data("data")
    classes = data["classes"]
    return [
        Shown(data["tasks"][task]["name"], picture, name, classes[label], None if truth < 0 else classes[truth], sure)
        for task, picture, name, label, truth, sure, *_ in data["answers"]
    ]


def assert_inert(page: Page) -> None:
    """Nothing that loads, submits or leads away, and nothing that runs but the one script that the policy knows by its hash."""
    allowed = {"main", "header", "section", "footer", "details", "summary", "div", "span", "i", "a", "svg", "path", "circle", "text",
               "b", "small", "p", "ul", "li", "dl", "dt", "dd", "h1", "h2", "h3", "table", "thead", "tbody", "tr", "th", "label",
               "td", "wbr", "html", "head", "body", "meta", "title", "style", "select", "option", "input", "button", "noscript",
               "script"}  # fmt: skip
    for element in page.elements:
        assert element.tag in allowed, element
        assert not [key for key in element.attributes if key.startswith("on") or key in ("srcset", "action", "src")]
        assert re.fullmatch(r"#task-\d+", element.attributes.get("href", "#task-0"))
    policy = [e for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy"]
    (running,) = [e for e in page.all("script") if "type" not in e.attributes]
    assert {e.attributes.get("type") for e in page.all("script")} == {None, "application/json"}
    digest = base64.b64encode(hashlib.sha256(running.text.encode()).digest()).decode()
    content = policy[0].attributes["content"]
    assert content.startswith("default-src 'none'; img-src data:;") and f"script-src 'sha256-{digest}';" in content
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|XMLHttp", running.text)
    assert not re.search(r"url\(|@import|https?:", page.all("style")[0].text)
    assert page.data("data")["prefix"] == "data:image/webp;base64,"


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
    assert page.all("table", "matrix") and page.all("svg", "reliability")
    assert "The most confident mistakes" in page.text


def test_settings_change_what_it_says(prediction: Prediction, tmp_path: Path) -> None:
    page = written(prediction, tmp_path, method=None, classifier="bdcspn")
    assert "transductive" in page.text and "uncalibrated" in page.text and "untouched tiny" in page.text
    assert "no estimate without labels" in page.text and page.data("data")["tasks"][0]["estimate"] is None
    assert "untouched: tuning was not surely better" in written(prediction, tmp_path, checkpoint="c", tuned=False).text


def test_each_query_stands_with_its_answer(prediction: Prediction, tmp_path: Path) -> None:
    page = written(prediction, tmp_path)
    frame = prediction.frame
    found = answers(page)
    assert [(a.task, a.name, a.label, a.truth) for a in found] == list(
        frame[["task", "image", "label", "truth"]].itertuples(index=False, name=None)
    )
    np.testing.assert_allclose([a.sure for a in found], frame.confidence, atol=6e-5)
    mistakes = (frame.label != frame.truth).sum()
    (first,) = [e for e in page.all("section") if e.attributes.get("id") == "first"]
    assert first.attributes["data-mistakes"] == str(mistakes) and first.attributes["data-answers"] == "36"
    data = page.data("data")
    for task, episode in zip(data["tasks"], prediction.episodes, strict=True):
        own = frame[frame.task == episode.name]
        assert task["listed"] and task["queries"] == len(own) and task["wrong"] == (own.label != own.truth).sum()
        assert [data["classes"][label] for label in task["classes"]] == list(episode.class_names)
        pairs = {(data["classes"][truth], data["classes"][answer]): n for truth, answer, n in task["pairs"]}
        assert pairs == own.groupby(["truth", "label"]).size().to_dict()


def test_without_truth_nothing_is_right_or_wrong(
    make_tasks: Callable[..., Path], name_tasks: Callable[..., Prediction], tmp_path: Path
) -> None:
    page = written(name_tasks(make_tasks(tmp_path / "t"), find_truth=False), tmp_path)
    assert len(answers(page)) == 36 and {a.truth for a in answers(page)} == {None}
    assert "What it is least sure of" in page.text and "confident mistakes" not in page.text
    assert not page.all("table", "matrix") and "accuracy, mean over" not in page.text and not page.all("svg")


def test_the_estimate_of_one_task_comes_with_its_own_interval(
    make_tasks: Callable[..., Path], name_tasks: Callable[..., Prediction], tmp_path: Path
) -> None:
    one = name_tasks(make_tasks(tmp_path / "one", tasks=1), find_truth=False)
    expected = estimate_task(one.episodes[0], one.embeddings, METHOD)
    assert expected is not None
    low, high = (f"{100 * end:.0f}\N{NO-BREAK SPACE}%" for end in expected.interval)
    text = " ".join(element.text for element in written(one, tmp_path).all("section", "tiles"))
    assert f"of one task; {low} to {high} (95 % interval)" in text and low != high
    several = name_tasks(make_tasks(tmp_path / "several", tasks=2), find_truth=False)
    assert "estimated accuracy without labels, mean over 2 tasks" in written(several, tmp_path).text


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
    assert {e.text for e in page.all("a") if "iframe" in e.text} == {task.name}
    data = page.data("data")
    assert [data["classes"][label] for label in data["tasks"][0]["classes"]] == sorted(evil)
    assert {broken.name, f"{evil[1]}.png"} <= {a.name for a in answers(page)}


def test_no_text_ends_the_element_that_holds_it() -> None:
    evil = ["</script><script>alert(1)</script>", "<!--<script>", "\u2028", "\u00e9\u732b"]
    text = as_script_data({"names": evil})
    assert "<" not in text and "\u2028" not in text and json.loads(text) == {"names": evil}


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
    found = answers(page)
    assert sum(a.sure < 0 and a.label == "(no answer)" for a in found) == 13
    assert [a.name for a in found if a.picture < 0] == [query.name]
    data = page.data("data")
    unseen = [entry[2] for entry in data["supports"] if entry[1] < 0]
    assert unseen == sorted(file.name for file in lost.iterdir())


def test_the_same_prediction_gives_the_same_bytes(
    prediction: Prediction, name_tasks: Callable[..., Prediction], tmp_path: Path
) -> None:
    again = name_tasks(Path(str(prediction.table.items[0])).parents[3].parent)
    assert written(prediction, tmp_path).source == written(again, tmp_path).source


def test_thumbnails_are_what_the_encoder_sees(prediction: Prediction, tmp_path: Path) -> None:
    page = written(prediction, tmp_path)
    pictures = page.data("pictures")
    assert len(pictures) == len(prediction.table)
    shown = answers(page)[0]
    thumbnail = np.asarray(Image.open(io.BytesIO(base64.b64decode(pictures[shown.picture]))).convert("RGB")).astype(
        float
    )
    assert thumbnail.shape == (SIDE, SIDE, 3)
    (path,) = Path(str(prediction.table.items[0])).parents[3].glob(f"task1/query/{shown.name}")
    expected = clip_pixels(path.read_bytes(), SIDE).transpose(1, 2, 0)
    assert np.abs(thumbnail.mean((0, 1)) - expected.mean((0, 1))).max() < 4


def test_pictures_keep_within_their_budget_and_what_is_left_out_is_told(prediction: Prediction, tmp_path: Path) -> None:
    everything = written(prediction, tmp_path)
    total = len(everything.data("pictures"))
    assert "This file holds" not in everything.text
    size = sum(map(len, everything.data("pictures")))
    page = written(prediction, tmp_path, picture_bytes=size // 4)
    kept = page.data("pictures")
    assert sum(map(len, kept)) <= size // 4 and 3 < len(kept) < total
    assert f"This file holds {len(kept)} of {total} pictures" in page.text
    assert [task["queries"] for task in page.data("data")["tasks"]] == [12, 12, 12]  # told, though not all is shown
    none = written(prediction, tmp_path, picture_bytes=0)
    assert none.data("pictures") == [] and f"This file holds 0 of {total} pictures" in none.text


def many_tasks(prediction: Prediction, n: int) -> Prediction:
    base = prediction.episodes[0]
    many = [dataclasses.replace(base, name=f"task{i}") for i in range(1, n + 1)]
    return dataclasses.replace(
        prediction, episodes=many, results=evaluate(many, FeatureScorer(prediction.embeddings, METHOD))
    )


def test_a_thousand_tasks_make_no_larger_page(prediction: Prediction, tmp_path: Path) -> None:
    page = written(many_tasks(prediction, 1200), tmp_path, method=None)
    assert len(page.source) < 5_000_000  # of which the few pictures take next to nothing
    assert "The 1,000 tasks with the lowest mean confidence are listed; 200 more confident ones left out" in page.text
    assert "14,400 query pictures of 1,200 tasks" in page.text
    rows = [e for e in page.all("tr") if "data-task" in e.attributes]
    assert len(rows) == MOST_ROWS and sum("hidden" not in e.attributes for e in rows) == 50
    data = page.data("data")
    assert all(data["tasks"][int(row.attributes["data-task"])]["listed"] for row in rows)


def test_a_task_with_very_many_queries_shows_the_most_telling(prediction: Prediction, tmp_path: Path) -> None:
    base = prediction.episodes[0]
    episode = Episode("big", base.class_names, base.support, base.support_labels, np.repeat(base.query, 60),
                      None if base.query_labels is None else np.repeat(base.query_labels, 60))  # fmt: skip
    results: Results = evaluate([episode], FeatureScorer(prediction.embeddings, METHOD))
    page = written(dataclasses.replace(prediction, episodes=[episode], results=results), tmp_path)
    shown = answers(page)
    wrong = int((results.predicted != results.truth).sum())
    assert MOST_QUERIES <= len(shown) < 720 / 2
    assert sum(a.label != a.truth for a in shown) >= min(wrong, MOST_QUERIES)
    assert page.data("data")["tasks"][0]["wrong"] == wrong


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
