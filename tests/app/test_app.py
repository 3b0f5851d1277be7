"""The page over HTTP, as a browser uses it: its answers are those of `fewshot predict`."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from fewshot.app.naming import example, write_task
from fewshot.commands.app import Options, page_of
from fewshot.commands.cli import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    page = page_of(Options(backbone="tiny", quiet=True), tmp_path)
    _, url, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, share=False)
    try:
        yield Client(url, verbose=False, analytics_enabled=False)
    finally:
        page.close(verbose=False)


def test_classes_in_answers_out(client: Client, tmp_path: Path) -> None:
    classes, queries = example(tmp_path)
    for name, paths in classes.items():
        for path in paths:  # a class may be added to
            shown, *_ = client.predict(name, [handle_file(path)], api_name="/add")
    assert [entry["caption"] for entry in shown] == [name for name, paths in classes.items() for _ in paths]
    named, written = client.predict([handle_file(path) for path in queries], "prototype", api_name="/name")
    root, result = write_task(tmp_path / "task", classes, queries), tmp_path / "result.csv"
    assert main(["predict", str(root), str(result), "--backbone", "tiny", "--quiet"]) == 0
    expected = list(csv.DictReader(result.open(newline="", encoding="utf-8")))
    assert [entry["caption"] for entry in named] == [
        f"{row['label']}  {float(row['confidence']):.0%}" for row in expected
    ]
    by_suffix = {Path(path).suffix: Path(path) for path in written}
    assert by_suffix[".csv"].read_bytes() == result.read_bytes()
    assert "<html" in by_suffix[".html"].read_text(encoding="utf-8")
    client.predict(api_name="/clear")
    with pytest.raises(AppError, match="at least two"):
        client.predict([handle_file(path) for path in queries], "prototype", api_name="/name")


def test_the_example_and_another_classifier(client: Client) -> None:
    shown, queries = client.predict(api_name="/example")
    assert len(shown) == 10 and len(queries) == 10
    named, _ = client.predict([handle_file(path) for path in queries], "nearest", api_name="/name")
    assert len(named) == 10
    with pytest.raises(AppError, match="cannot be the name of a class"):
        client.predict("a/b", [handle_file(queries[0])], api_name="/add")


def test_an_unknown_classifier_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["app", "--backbone", "tiny", "--classifier", "wizard"]) == 2
    assert "unknown classifier 'wizard'" in capsys.readouterr().err


def test_the_command_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fewshot", "app", "--backbone", "tiny", "--quiet"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        _use_and_interrupt(process, tmp_path)
    finally:
        process.kill()


def _use_and_interrupt(process: subprocess.Popen[str], tmp_path: Path) -> None:
    assert process.stdout is not None and process.stderr is not None
    said = process.stdout.readline()
    found = re.search(r"the page is at (http://127\.0\.0\.1:\d+/)", said)
    assert found, said + process.stderr.read()
    with urllib.request.urlopen(found[1]) as page:
        assert page.status == 200 and b"Few-shot image classification" in page.read()
    assert list(tmp_path.glob("fewshot-app-*"))
    process.send_signal(signal.SIGINT)
    error = process.stderr.read()
    assert process.wait() == 130 and "Traceback" not in error, error
    assert not list(tmp_path.glob("fewshot-app-*"))  # what was uploaded is gone
