"""Settings that cannot be trained with, and runs that cannot be gone on with."""

from __future__ import annotations

import shutil

from fewshot.run_files import CONFIG, METRICS
from tests.bad_input.case import SMALL, Case, Change, Group, Place, Words, adding, train


def resume(place: Place) -> Words:
    return "train", "--train_data", place.classes, "--backbone", "tiny", "--output", place.run, "--resume", *SMALL


def foreign(name: str) -> Change:
    """Another program's file where the run would write its own."""

    def breaks(place: Place) -> Words:
        (place.root / "theirs").mkdir()
        (place.root / "theirs" / name).write_text('{"theirs": 1}')
        return "--output", place.root / "theirs"

    return breaks


def looping(place: Place) -> Words:
    (place.root / "loop").symlink_to("loop")
    return "--output", place.root / "loop"


SETTINGS = Group("Settings of training (`train`)", train, (
    Case("`--epochs 0`", adding("--epochs", 0), 2, "epochs is 0"),
    Case("`--epochs 1000000000`", adding("--epochs", 10**9), 2, "epochs is 1000000000"),
    Case("`--batch_size 1000000000`", adding("--batch_size", 10**9), 2, "batch_size is 1000000000"),
    Case("a batch below one episode", adding("--batch_size", 2), 2, "holds no episode"),
    Case("a batch of more pictures than there are", adding("--batch_size", 4096), 2, "batch_size"),
    Case("more ways than classes", adding("--ways", 7, "--batch_size", 14), 1, "needs 7 classes"),
    Case("more ways than validation classes", adding("--val_ways", 99), 2, "val_ways"),
    Case("`--ways 1`", adding("--ways", 1), 2, "ways is 1"),
    Case("`--shots 0`", adding("--shots", 0), 2, "shots"),
    Case("`--shots 99`", adding("--shots", 99, "--batch_size", 400), 2, ""),
    Case("`--visual_lr nan`", adding("--visual_lr", "nan"), 2, "visual_lr is nan"),
    Case("`--visual_lr 1e30`", adding("--visual_lr", "1e30"), 2, "visual_lr is 1e+30"),
    Case("`--crop_scale 0 0`", adding("--crop_scale", 0, 0), 2, "crop_scale[0] is 0.0"),
    Case("`--crop_scale 1 0.1`", adding("--crop_scale", 1, 0.1), 2, "expected the lower share first"),
    Case("`--rotation nan`", adding("--rotation", "nan"), 2, "rotation is nan"),
    Case("`--dropout 1`", adding("--dropout", 1), 2, "dropout is 1.0"),
    Case("no loss at all", adding("--prototypical_weight", 0, "--class_weight", 0), 2, "nothing to learn from"),
    Case("the output among the classes", lambda place: ("--output", place.classes / "run"), 2, "among its classes"),
    Case("the output is the folder of classes", lambda place: ("--output", place.classes), 2, "among its classes"),
    Case("the output is a finished run", lambda place: ("--output", place.run), 1, "never overwritten"),
    Case("the output is a file", lambda place: ("--output", place.result), 1, "is no folder"),
    Case("the output below a file", lambda place: ("--output", place.result / "run"), 1, "lies below"),
    Case("the output is a link to itself", looping, 1, "is no folder"),
    Case("the output holds another program's config.json", foreign(CONFIG), 1, CONFIG),
    Case("the output holds another program's metrics.csv", foreign(METRICS), 1, "that no run wrote"),
    Case("validation of the same classes, with `--strict`", lambda place: ("--val_data", place.classes, "--strict"), 1, "are shared"),
    Case("weights of another kind", adding("--backbone", "nonsense"), 2, "nonsense"),
))  # fmt: skip
RESUMING = Group("Runs to be resumed (`train --resume`)", resume, (
    Case("no such folder", lambda place: shutil.rmtree(place.run), 1, ""),
    Case("a finished run of other settings", lambda place: None, 2, ""),
    Case("a config.json of noise", lambda place: (place.run / CONFIG).write_bytes(b"\xff"), 1, CONFIG),
))  # fmt: skip
