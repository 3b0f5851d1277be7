"""The folder of uploads goes when its process ends, and where that was killed, when the next one starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fewshot.app import uploads

HOLDER = """
import sys, tempfile
from fewshot.app.uploads import upload_folder
tempfile.tempdir = sys.argv[1]
with upload_folder() as folder:
    (folder / "picture").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.readline()
"""


def holder(temporary: Path) -> tuple[subprocess.Popen[str], Path]:
    """Another process that has a folder of uploads until it is told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(temporary)],
        cwd=Path(__file__).resolve().parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


@pytest.mark.skipif(sys.platform == "win32", reason="no locks to tell a killed process by")
def test_what_a_killed_process_left_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, left = holder(tmp_path)
    killed.kill()
    killed.wait()
    running, held = holder(tmp_path)  # removes what was left when it starts
    try:
        assert not left.exists() and (held / "picture").exists()
        (tmp_path / "fewshot-app-foreign").mkdir()  # has no lock of ours
        (tmp_path / "fewshot-app-link").symlink_to(held)
        monkeypatch.setattr(uploads.tempfile, "tempdir", str(tmp_path))
        with uploads.upload_folder() as own:
            assert own.is_dir() and own.stat().st_mode & 0o077 == 0
            assert (held / "picture").exists() and (tmp_path / "fewshot-app-foreign").exists()
        assert not own.exists()
    finally:
        assert running.stdin is not None
        running.stdin.close()
        assert running.wait() == 0
    assert not held.exists()
