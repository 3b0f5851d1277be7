"""Five runs of the command line whose bytes are pinned: result files, checkpoints, tables, cache keys.

Moving code must not move a byte. `python -m tests.golden.five_runs` writes `five_runs.json` anew, which is right only where a
change is meant to alter what users get, and its commit says so.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import platform
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import PIL
import torch
from safetensors.torch import load_file

from fewshot.__main__ import main
from tests.conftest import make_clip, write_pictures

GOLDEN = Path(__file__).with_name("five_runs.json")
SHARED = ["--precision", "32", "--device", "cpu", "--quiet"]
TRAIN = [
    "--unfreeze_blocks", "1", "--epochs", "2", "--batch_size", "24", "--queries", "2", "--visual_lr", "1e-3",
    "--val_queries", "4", "--val_episodes", "40", "--workers", "0",
]  # fmt: skip
THREADS = 1  # sums are split among threads: another number of them rounds otherwise
_OF_THE_MACHINE = ("seconds", "images_per_second", "peak_memory_mb", "learning_seconds")


def environment() -> dict[str, str]:
    """What bytes may depend on besides the code."""
    return {
        "torch": torch.__version__,
        "pillow": PIL.__version__,
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": str(THREADS),
    }


def make(folder: Path) -> dict[str, Any]:
    """Do the five runs in an empty folder; what each left behind, as digests and as values."""
    write_pictures(folder / "train", 12, 10)
    write_pictures(folder / "val", 8, 10, seed=1, offset=20)
    write_pictures(folder / "test", 6, 12, seed=2, offset=40)
    torch.save(make_clip().state_dict(), folder / "vit.pt")
    previous, cache, threads = Path.cwd(), os.environ.get("FEWSHOT_CACHE"), torch.get_num_threads()
    os.chdir(folder)
    torch.set_num_threads(THREADS)
    os.environ["FEWSHOT_CACHE"] = "cache"
    try:
        return _runs()
    finally:
        os.chdir(previous)
        torch.set_num_threads(threads)
        if cache is None:
            del os.environ["FEWSHOT_CACHE"]
        else:
            os.environ["FEWSHOT_CACHE"] = cache


def _runs() -> dict[str, Any]:
    _command("make-tasks", "test", "tasks", "--tasks", "4", "--ways", "4", "--shots", "2", "--queries", "4")
    data = ["--train_data", "train", "--val_data", "val", "--backbone", "vit.pt"]
    _command("predict", "tasks", "tiny.csv", "--backbone", "tiny", *SHARED)
    _command("train", *data, "--output", "pictures", *TRAIN, *SHARED)
    _command("train", *data, "--output", "hidden", "--views", "2", "--trunk_cache", "on", *TRAIN, *SHARED)
    _command(
        "predict", "tasks", "gda.csv", "--checkpoint", "hidden", "--classifier", "gda", "--adapt", "blocks", *SHARED
    )
    _command("predict", "tasks", "reject.csv", "--checkpoint", "pictures", "--reject", "0.05", *SHARED)
    measured = _command(
        "evaluate", "test", "--checkpoint", "pictures", "--classifier", "prototype", "ridge", "tip", "alpha-tim", "gda",
        "--ways", "3", "--shots", "1", "3", "--queries", "4", "--episodes", "50", "--json", *SHARED[:-1],
    )  # fmt: skip
    return {
        "tiny.csv": _table("tiny.csv"),
        "gda.csv": _table("gda.csv"),
        "reject.csv": _table("reject.csv"),
        "evaluate": json.loads(measured),
        "pictures": _checkpoint(Path("pictures")),
        "hidden": _checkpoint(Path("hidden")),
        "cache keys": _digest("\n".join(_cache_keys()).encode()),
        "hidden states": sorted(path.name for path in Path("cache").rglob("*.bin")),
    }


def _command(*arguments: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = main(arguments)
    assert status == 0, (arguments, status, said.getvalue())
    return said.getvalue()


def _table(name: str) -> dict[str, Any]:
    data = Path(name).read_bytes()
    return {"sha256": _digest(data), "rows": list(csv.reader(io.StringIO(data.decode())))}


def _checkpoint(path: Path) -> dict[str, Any]:
    tensors = load_file(path / "model.safetensors")
    metrics = list(csv.DictReader((path / "metrics.csv").open(encoding="utf-8")))
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    return {
        "files": sorted(file.name for file in path.iterdir()),
        "sha256": _digest((path / "model.safetensors").read_bytes()),
        "tensors": {name: [list(value.shape), float(value.double().norm())] for name, value in tensors.items()},
        "config": _digest(json.dumps(_untimed(config), sort_keys=True).encode()),
        "config keys": sorted(config),
        "metrics": _digest(json.dumps(_untimed(metrics), sort_keys=True).encode()),
        "metrics columns": list(metrics[0]),
    }


def _untimed(value: Any) -> Any:
    """Without what a clock or a memory gauge said."""
    if isinstance(value, dict):
        return {key: _untimed(each) for key, each in value.items() if key not in _OF_THE_MACHINE}
    return [_untimed(each) for each in value] if isinstance(value, list) else value


def _cache_keys() -> list[str]:
    with contextlib.closing(sqlite3.connect(Path("cache") / "embeddings.sqlite")) as connection:
        return sorted(row[0].hex() for row in connection.execute("SELECT key FROM embeddings"))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        found = {"environment": environment(), "runs": make(Path(temporary))}
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"{GOLDEN}: written")
