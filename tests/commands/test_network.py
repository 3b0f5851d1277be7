"""No command reaches for the network unasked: an audit hook in the process itself notes every connection and every name looked up."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import write_pictures

ROOT = Path(__file__).resolve().parents[2]
HOOK = """
import os, sys
LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")

def note(event, arguments):
    if event == "socket.connect":
        place = arguments[1][0] if isinstance(arguments[1], tuple) else "local"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        place = arguments[0]
    elif event == "socket.sendto":
        place = arguments[1][0] if isinstance(arguments[1], tuple) else "local"
    else:
        return
    place = place.decode() if isinstance(place, bytes) else str(place)
    if place not in ("local", "None", "") and not place.startswith(LOOPBACK):
        with open(os.environ["NETWORK_LOG"], "a") as log:
            log.write(f"{event} {place}\\n")

sys.addaudithook(note)
with open(os.environ["NETWORK_LOG"], "a") as log:
    log.write("watching\\n")
"""
COMMANDS = """
import shlex, sys
from fewshot.commands.cli import main
for line in sys.stdin.read().splitlines():
    status = main(shlex.split(line))
    assert status == 0, (line, status)
"""


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """An environment in which every Python process notes where it connects to."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    path = os.pathsep.join([str(tmp_path / "hook"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "NETWORK_LOG": str(tmp_path / "log"), "TMPDIR": str(tmp_path)}


def connections(watched: dict[str, str]) -> list[str]:
    lines = Path(watched["NETWORK_LOG"]).read_text().splitlines()
    assert "watching" in lines
    return [line for line in lines if line != "watching"]


def test_the_hook_sees_a_connection(watched: dict[str, str]) -> None:
    code = "import socket\ntry: socket.create_connection(('192.0.2.1', 9), timeout=0.01)\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", code], env=watched, check=True)
    assert any("192.0.2.1" in line for line in connections(watched))


def test_no_command_reaches_for_the_network(watched: dict[str, str], tmp_path: Path) -> None:
    write_pictures(tmp_path / "pictures", 6, 8)
    commands = """
        doctor
        cache info
        make-tasks pictures tasks --tasks 2 --ways 3 --shots 2 --queries 2
        predict tasks result.csv --backbone tiny --report report.html
        score result.csv tasks/truth.csv
        evaluate pictures --backbone tiny --ways 3 --shots 1 --queries 2 --episodes 3 --classifier text-blend --report evaluation.html
        train --train_data pictures --backbone tiny --unfreeze_blocks 1 --epochs 1 --val_episodes 4 --output run --report run.html
        predict tasks tuned.csv --checkpoint run --classifier gda
    """
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        input="\n".join(line.strip() for line in commands.strip().splitlines()),
        cwd=tmp_path,
        env=watched,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tuned.csv").is_file()
    for name, title in (("report", "predictions"), ("evaluation", "evaluation"), ("run", "training run")):
        assert f"{title}</title>" in (tmp_path / f"{name}.html").read_text(encoding="utf-8")
    assert connections(watched) == []


def test_missing_weights_are_named_and_not_fetched(watched: dict[str, str], tmp_path: Path) -> None:
    words = ["predict", ".", "result.csv", "--backbone", "ViT-B/32", "--download_root", str(tmp_path)]
    write_pictures(tmp_path / "testB" / "task1" / "support", 2, 1)
    (picture,) = write_pictures(tmp_path / "drawn", 1, 1).glob("*/*.png")
    (tmp_path / "testB" / "task1" / "query").mkdir()
    picture.rename(tmp_path / "testB" / "task1" / "query" / "x.png")
    done = subprocess.run(
        [sys.executable, "-m", "fewshot", *words], cwd=tmp_path, env=watched, capture_output=True, check=False
    )
    assert done.returncode == 1 and b"fewshot download" in done.stderr
    assert connections(watched) == []


def test_the_app_stays_on_this_machine(watched: dict[str, str]) -> None:
    pytest.importorskip("uvicorn")
    process = subprocess.Popen(
        [sys.executable, "-m", "fewshot", "app", "--backbone", "tiny", "--quiet", "--port", "0"],
        env=watched,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        assert process.stdout is not None
        found = re.search(r"(http://127\.0\.0\.1:\d+/)\?token=\S+", process.stdout.readline())
        assert found
        visitor = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with visitor.open(found[0]) as page:
            assert page.status == 200
        for path, body in (("api/edit", b'{"do": "example"}'), ("api/name", b'{"classifier": "prototype"}')):
            asked = urllib.request.Request(found[1] + path, body, {"x-fewshot": "1"})
            with visitor.open(asked) as answer:
                assert answer.status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    finally:
        process.kill()
    assert connections(watched) == []
