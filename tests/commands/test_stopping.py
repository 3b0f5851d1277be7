"""SIGINT and SIGTERM take effect wherever they arrive."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fewshot.commands.cli import _guarded
from fewshot.commands.stopping import Terminated, stopping

ROOT = Path(__file__).resolve().parents[2]
KINDS = [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)]


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """SIGINT is not ignored, as it is in what a shell starts in the background."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


class Dropping:
    """Is told to stop where Python drops what is raised, as it does in hooks of `os.fork`."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        signal.raise_signal(self.number)


@pytest.mark.parametrize(("number", "kind"), KINDS)
def test_what_was_dropped_is_raised_again(
    number: int, kind: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    reached = False
    with pytest.raises(kind), stopping():
        Dropping(number)
        reached = True
        select.select([], [], [], 60)  # longer than it takes
    assert reached and capfd.readouterr().err == ""


@pytest.mark.parametrize(("number", "kind"), KINDS)
def test_a_clean_up_is_not_interrupted(number: int, kind: type[BaseException]) -> None:
    cleaned = []
    with pytest.raises(kind), stopping():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGALRM)
            try:
                raise OSError
            except OSError:
                signal.raise_signal(signal.SIGALRM)
            cleaned.append(True)
    assert cleaned


def test_a_background_job_goes_on_ignoring_sigint() -> None:
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stopping():
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN != signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, usual)


def test_handlers_are_put_back_and_a_forked_process_ends_in_silence(capfd: pytest.CaptureFixture[str]) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with stopping():
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 143
    assert [signal.getsignal(number) for number in numbers] == before and capfd.readouterr().err == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("words", [["--help"], ["score", "--help"]])
def test_a_full_standard_output_is_told_as_such(words: list[str], buffered: bool) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": "" if buffered else "1"}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "fewshot", *words]
        done = subprocess.run(
            command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment
        )
    called = "fewshot score" if "score" in words else "fewshot"
    assert (done.returncode, done.stderr) == (1, f"{called}: [Errno 28] No space left on device (standard output)\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_reason_to_fail(closed: str, tmp_path: Path) -> None:
    for name in ("result", "truth"):
        (tmp_path / f"{name}.csv").write_text("task,image,label\ntask1,1.png,a\ntask1,2.png,b\n")
    words = f"{sys.executable} -m fewshot score {tmp_path}/result.csv {tmp_path}/truth.csv {closed}"
    done = subprocess.run(["/bin/sh", "-c", words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "words", ["DefaultCPUAllocator: can't allocate memory: you tried", "could not create a primitive"]
)
def test_too_little_memory_is_told_in_a_sentence(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> int:
        raise RuntimeError(words)

    assert _guarded("fewshot x", work) == 1
    assert capsys.readouterr().err.startswith(f"fewshot x: memory is too short ({words}). Close other programs")


def test_other_errors_of_ours_keep_their_trace() -> None:
    def work() -> int:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        _guarded("fewshot x", work)
