"""A cold `fewshot predict` as a whole process, on 300 pictures, beside the script that a user would write."""

from __future__ import annotations

from pathlib import Path

from experiments.benchmarks.inputs import vit_b_32
from experiments.benchmarks.measure import Row, in_turn, quotients
from experiments.benchmarks.processes import caller, tasks_of_300

_PLAIN = (
    "import sys; from pathlib import Path\n"
    "from experiments.benchmarks.predicting import plain_script\n"
    "from fewshot.encoders import load_clip\n"
    "plain_script(load_clip(sys.argv[1]), sorted(Path(sys.argv[2]).iterdir()))"
)


def run(scratch: Path, quick: bool) -> list[Row]:
    """ViT-B/32's shape; both load the weights, and see each picture once."""
    root, weights = tasks_of_300(scratch / "tasks-300"), str(vit_b_32(scratch))
    call = caller(scratch / "cache-of-cold")
    words = ("predict", str(root), str(scratch / "r.csv"), "--backbone", weights, "--no_cache")
    sides = {
        "cold": lambda: call("-m", "fewshot", *words),
        "plain": lambda: call("-c", _PLAIN, weights, str(root / "testB")),
    }
    seconds = in_turn(sides, 1 if quick else 4, warm_up=False)
    return [
        Row("cold predict, a process, ViT-B/32", seconds["cold"], seconds["plain"], "s", "plain float32 script, a process",
            quotients(seconds["plain"], seconds["cold"]), 3.0, note="300 pictures of 500 x 375; both load the weights"),
    ]  # fmt: skip
