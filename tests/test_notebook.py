"""What objects show of themselves: a line or three as text, bounded and escaped HTML, figures."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from episodes import Episode, EpisodeSampler, ImageTable, Results, evaluate, read_class_folders
from fewshot import FeatureScorer, build_classifier
from fewshot.checkpoint import load_checkpoint
from fewshot.embedding.embed import Embeddings
from fewshot.report import plot_episode, plot_reliability, plot_shots


@pytest.fixture(scope="module")
def table(other_folders: Path) -> ImageTable:
    return read_class_folders(other_folders)


@pytest.fixture(scope="module")
def sampler(table: ImageTable) -> EpisodeSampler:
    return EpisodeSampler(table, ways=(3, 4), shots=2, queries=7, episodes=20)


@pytest.fixture(scope="module")
def results(table: ImageTable, sampler: EpisodeSampler) -> Results:
    features = torch.randn(len(table), 8, generator=torch.Generator().manual_seed(0))
    known = Embeddings(features, torch.ones(len(table), dtype=torch.bool), {}, 0)
    return evaluate(sampler, FeatureScorer(known, build_classifier("prototype")))


def test_text_is_a_line_or_three(sampler: EpisodeSampler, results: Results, tiny_run: Path) -> None:
    assert repr(sampler) == (
        "<EpisodeSampler of 20 episodes: 3-4-way 2-shot, 7 queries a class, seed 0, of 80 pictures in 8 classes>"
    )
    assert re.fullmatch(r"<Episode \w+: \d-way, \d+ support and \d+ query pictures, labels known>", repr(sampler[0]))
    assert repr(results) == f"<Results: {results.summary()}>"
    run = load_checkpoint(tiny_run)
    assert repr(run).startswith(f"<Checkpoint {tiny_run}: ") and repr(run).endswith(", 4 training classes>")
    assert all(len(repr(each)) < 300 for each in (sampler, results, run))


def test_html_is_bounded_and_shows_pictures(
    table: ImageTable, sampler: EpisodeSampler, results: Results, tiny_run: Path
) -> None:
    for shown, pictures in (
        (table, 8 * 5),
        (sampler, 2 * 3 + 5 * 3),
        (sampler[0], 0),
        (results, 0),
        (load_checkpoint(tiny_run), 0),
    ):
        text = shown._repr_html_()
        assert text.count("<img ") >= pictures and len(text) < 300_000
        assert text.count("<tr>") == text.count("</tr>") <= 11


def test_names_are_escaped_and_broken_pictures_named(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    folder = tmp_path / evil.replace("/", "-")
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no picture")
    found = read_class_folders(tmp_path)
    text = found._repr_html_()
    assert "<script" not in text and html.escape(folder.name) in text and "<code>a.png</code>" in text
    episode = Episode("<b>", ("<i>", "&"), np.array([0, 1]), np.array([0, 1]), np.array([2]))
    assert "<b>" not in episode._repr_html_() and "&lt;i&gt;" in episode._repr_html_()


def test_figures_show_what_they_say(table: ImageTable, sampler: EpisodeSampler, results: Results) -> None:
    figure = plot_episode(table, sampler[0])
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == sum(min(5, n) for label in range(len(sampler[0].class_names)) for n in (2, 7))
    (axes,) = plot_reliability(results, bins=4).axes
    line = axes.lines[1]
    right, sure = results.predicted == results.truth, results.confidence.astype(float)
    for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
        inside = (sure >= np.floor(x * 4) / 4) & (sure < np.floor(x * 4) / 4 + 0.25)
        assert (x, y) == (pytest.approx(sure[inside].mean()), pytest.approx(right[inside].mean()))
    (axes,) = plot_shots({"prototype": [(5, results), (1, results)]}).axes
    assert axes.containers[0].lines[0].get_xdata().tolist() == [1, 5]
    assert axes.containers[0].lines[0].get_ydata().tolist() == [pytest.approx(100 * results.mean)] * 2
