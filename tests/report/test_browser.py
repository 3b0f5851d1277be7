"""The report in a real browser: what comes first, sorting, filters, links, the map, hostile names, axe-core, three looks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from episodes import evaluate
from fewshot.classifiers.scoring import FeatureScorer
from fewshot.predict import Prediction
from fewshot.report import write_prediction_report, write_training_plot
from fewshot.training.metrics import Metrics
from tests.browsing import DARK, LIGHT, PHONE, Browser
from tests.report.conftest import METHOD

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def many(prediction: Prediction) -> Prediction:
    """Seventy tasks of the same pictures."""
    episodes = [dataclasses.replace(prediction.episodes[i % 3], name=f"task{i + 1}") for i in range(70)]
    results = evaluate(episodes, FeatureScorer(prediction.embeddings, METHOD))
    return dataclasses.replace(prediction, episodes=episodes, results=results)


def opened(browser: Browser, prediction: Prediction, folder: Path, look: str = LIGHT) -> None:
    path = folder / "report.html"
    write_prediction_report(prediction, path, backbone="tiny", classifier="prototype", method=METHOD)
    browser.open(path.as_uri(), look)


def test_the_most_confident_mistakes_of_all_tasks_come_first(
    browser: Browser, prediction: Prediction, tmp_path: Path
) -> None:
    opened(browser, prediction, tmp_path)
    frame = prediction.frame
    wrong = frame[frame.label != frame.truth].sort_values("confidence", ascending=False, kind="stable")
    cards = browser.texts("#gallery .query figcaption")
    for (_, row), card in zip(wrong.head(24).iterrows(), cards, strict=True):
        assert row.label in card and f"is {row.truth}" in card and row.task in card
        assert f"{100 * row.confidence:.1f}\u00a0%" in card
    browser.choose("#order", "the least sure answers")
    first = frame.sort_values("confidence", kind="stable").iloc[0]
    assert first.label in browser.texts("#gallery .query figcaption")[0]
    while browser.one("#more").is_displayed():
        browser.click("#more")
    assert len(browser.all("#gallery .query")) == len(frame)
    assert browser.js("[...document.images].every(i => i.naturalWidth > 0)")
    assert browser.complaints() == [] and browser.js("performance.getEntriesByType('resource').length") == 0


def test_one_class_is_looked_at(browser: Browser, prediction: Prediction, tmp_path: Path) -> None:
    opened(browser, prediction, tmp_path)
    frame = prediction.frame
    name = frame[frame.label != frame.truth].truth.iloc[0]
    browser.choose("#class", name)
    cards = browser.texts("#gallery .query figcaption")
    expected = frame[(frame.label != frame.truth) & ((frame.label == name) | (frame.truth == name))]
    assert len(cards) == len(expected) > 0 and all(name in card for card in cards)
    shown = [e.text for e in browser.all("table.tasks tbody tr:not([hidden]) th")]
    assert shown == [e.name for e in prediction.episodes if name in e.class_names]


def test_tasks_are_sorted_searched_and_followed_to_their_pictures(
    browser: Browser, many: Prediction, tmp_path: Path
) -> None:
    opened(browser, many, tmp_path)
    assert len(browser.all("table.tasks tbody tr:not([hidden])")) == 50
    (heading,) = [e for e in browser.all("table.tasks thead button") if "Accuracy" in e.text]
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", heading)
    for direction in ("ascending", "descending"):
        heading.click()
        accuracies = [float(text.split()[0]) for text in browser.texts("table.tasks tbody tr td[data-label=Accuracy]")]
        assert accuracies == sorted(accuracies, reverse=direction == "descending") and len(set(accuracies)) > 1
        assert browser.js("document.querySelector('th[aria-sort]').getAttribute('aria-sort')") == direction
    browser.one("#task-name").send_keys("task7")
    assert {e.text for e in browser.all("table.tasks tbody tr:not([hidden]) th")} == {"task7", "task70"}
    browser.click("table.tasks tbody tr:not([hidden]) a[href='#task-6']")
    browser.until(lambda: browser.one("#task").is_displayed())
    episode = many.episodes[6]
    assert browser.one("#task h2").text == "task7"
    assert browser.texts("#task h4") == list(episode.class_names)
    assert len(browser.all("#task .strip img")) == len(episode.support)
    assert len(browser.all("#task figure.query")) == len(episode.query)
    counts = [int(text) for text in browser.texts("#task .matrix td") if text != "·"]
    assert sum(counts) == len(episode.query)
    browser.one("#task button[data-go='#tasks']").click()
    browser.until(lambda: not browser.one("#task").is_displayed())


def test_the_map_shows_the_picture_that_is_pointed_at(browser: Browser, prediction: Prediction, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains, Keys

    opened(browser, prediction, tmp_path)
    browser.driver.execute_script("document.getElementById('map').scrollIntoView()")
    browser.until(lambda: browser.all("#map svg path"))
    points = browser.all("#map svg path")
    assert len(points) == len(prediction.frame)
    assert browser.js("document.querySelectorAll('#map path.wrong').length") == int(
        (prediction.frame.label != prediction.frame.truth).sum()
    )
    ActionChains(browser.driver).move_to_element(points[3]).perform()
    browser.until(lambda: browser.all("#map .tip img"))
    first = browser.one("#map .tip p").text
    assert any(first.startswith(f"{name}: named") for name in prediction.frame.image)
    browser.one("#map svg").send_keys(Keys.ARROW_RIGHT)
    assert browser.one("#map .tip p").text != first and len(browser.all("#map path.current")) == 1


@pytest.mark.parametrize("look", [LIGHT, DARK, PHONE])
def test_everybody_can_use_it(browser: Browser, prediction: Prediction, tmp_path: Path, look: str) -> None:
    opened(browser, prediction, tmp_path, look)
    browser.driver.execute_script("location.hash = '#task-1'")
    browser.until(lambda: browser.one("#task").is_displayed())
    assert browser.faults() == [] and browser.cut_off() <= 0
    metrics = Metrics(tmp_path / "run") if (tmp_path / "run").mkdir() is None else None
    assert metrics is not None
    metrics.add("untouched", epoch=0, val_accuracy=0.5, val_ci95=0.01)
    metrics.add("epoch", epoch=1, loss=1.0, val_accuracy=0.6, val_ci95=0.01)
    metrics.write()
    browser.open(write_training_plot(tmp_path / "run", tmp_path / "run.html").as_uri(), look)
    assert browser.faults() == [] and browser.cut_off() <= 0


def test_hostile_names_stay_text(
    browser: Browser, make_tasks: Callable[..., Path], name_tasks: Callable[..., Prediction], tmp_path: Path
) -> None:
    task = make_tasks(tmp_path / "t", tasks=1) / "testB" / "task1"
    evil = ["<img src=x onerror=window.pwned=1>", "</script><script>window.pwned=1<", "<!--<script>{{ 7 * 7 }}"]
    evil = [name.replace("/", "\u2215") for name in evil]
    for folder, name in zip(sorted((task / "support").iterdir()), evil, strict=True):
        folder.rename(folder.with_name(name))
    first = min((task / "query").iterdir())
    first.rename(first.with_name(f"{evil[0]}.png"))
    opened(browser, name_tasks(task.parent, find_truth=False), tmp_path)
    browser.driver.execute_script("location.hash = '#task-0'")
    browser.until(lambda: browser.one("#task").is_displayed())
    assert browser.js("window.pwned") is None and browser.complaints() == []
    assert browser.texts("#task h4") == sorted(evil)
    assert not browser.js("[...document.images].some(i => i.getAttribute('src') === 'x')")
