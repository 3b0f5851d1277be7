"""What an encoder costs: pictures embedded, a short training and peak memory of each encoder that needs no download, beside `tiny`'s.

In seconds of a core, not of a clock: what else the machine does then changes little. Every figure is of a process of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from experiments.benchmarks.inputs import class_folders
from experiments.benchmarks.measure import Row, quotients
from fewshot.encoders.lite import RELEASES, weights_path

# Start-up (imports, weights) is not counted, nor is the peak of what ran before.
_EMBED = """
import json, resource, sys, time
from pathlib import Path
from fewshot import embed_images, load_encoder
encoder, items = load_encoder(sys.argv[1]), sorted(Path(sys.argv[2]).rglob("*.jpg"))
embed_images(encoder, items[:32])
started = time.process_time()
embed_images(encoder, items)
rate = len(items) / (time.process_time() - started)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([rate, int(peak.split()[1]) / 1024]))
"""
_TRAIN = """
import json, sys, time
from fewshot.commands.cli import main
started = time.process_time()
status = main(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps([time.process_time() - started, int(peak.split()[1]) / 1024]))
sys.exit(status)
"""


def run(scratch: Path, quick: bool) -> list[Row]:
    """Three rows for each lite that is installed: embedding, training, and memory of both."""
    count, rounds = (8, 1) if quick else (16, 3)
    folder = class_folders(scratch / f"encoders-{count}", 16, count)
    names = ["tiny", *(name for name in RELEASES if weights_path(name) is not None)]
    embedded: dict[str, list[list[float]]] = {name: [] for name in names}
    trained: dict[str, list[list[float]]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names:  # in turn
            embedded[name].append(_measured(_EMBED, name, str(folder)))
            output = str(scratch / f"run-{name}-{number}")
            settings = ["--epochs", "1", "--unfreeze_blocks", "2", "--workers", "0", "--no_cache", "--quiet"]
            trained[name].append(
                _measured(
                    _TRAIN, "train", "--train_data", str(folder), "--backbone", name, "--output", output, *settings
                )
            )
    return [row for name in names[1:] for row in _rows(name, embedded, trained, 16 * count)]


def _rows(
    name: str, embedded: dict[str, list[list[float]]], trained: dict[str, list[list[float]]], pictures: int
) -> list[Row]:
    rate, base_rate = ([found[0] for found in embedded[each]] for each in (name, "tiny"))
    time, base_time = ([found[0] for found in trained[each]] for each in (name, "tiny"))
    peaks = [
        [max(each) for each in zip(*([f[1] for f in found[n]] for found in (embedded, trained)), strict=True)]
        for n in (name, "tiny")
    ]
    training = f"train, one epoch of {pictures} pictures, 2 blocks, {name}"
    return [
        Row(f"embedding, {name}", rate, base_rate, "pictures/core-s", "tiny", quotients(rate, base_rate)),
        Row(training, time, base_time, "core-s", "tiny", quotients(time, base_time)),
        Row(f"peak memory of embedding and train, {name}", peaks[0], peaks[1], "MiB", "tiny", quotients(*peaks)),
    ]  # fmt: skip


def _measured(script: str, *arguments: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found
