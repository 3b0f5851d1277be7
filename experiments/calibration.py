"""How sure may classifiers be with an encoder as it comes? Measures what ships with the package.

    python -m experiments.calibration --data DIR [--backbones tiny lite0 lite2]

DIR holds tin/val and omniglot/base as class folders: photographs and characters. Every inductive classifier gets temperatures, thresholds
for foreign pictures and their cost by ways and shots, on each of the two. Writes `fewshot/classifiers/shipped_calibration.json`; backbones
that are not named keep what they have there.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from episodes import read_class_folders
from episodes.errors import DataError, UsageError
from episodes.files import atomic_write
from fewshot.classifiers import build_classifier
from fewshot.classifiers.base import Classifier
from fewshot.classifiers.calibrate import measure_confidence
from fewshot.classifiers.shipped import FILE
from fewshot.classifiers.statistics import shipped_statistics
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.embed import embed_images
from fewshot.encoders import load_encoder

QUERIES = 2000  # of every size; training makes do with fewer
KINDS = {"photographs (tin val)": "tin/val", "characters (omniglot base)": "omniglot/base"}


@dataclass(frozen=True)
class Arguments:
    """Measure the calibration that ships with encoders."""

    data: Path  # folder that holds the image sets as class folders
    backbones: tuple[str, ...] = ("tiny", "lite0", "lite2")
    classifiers: tuple[str, ...] = ()  # these alone, the others stay as they are; all of them unless given
    output: Path = FILE
    seed: int = 0


def measure(data: Path, backbone: str, classifiers: tuple[str, ...] = (), seed: int = 0) -> dict[str, Any]:
    """The entry of one backbone: the mean embedding of each kind of pictures, and each classifier's confidence on each."""
    encoder, statistics = load_encoder(backbone), shipped_statistics(backbone)
    centres, parts = [], []
    for source, folder in KINDS.items():
        table = read_class_folders(data / folder)
        embeddings = embed_images(encoder, table.items, cache=EmbeddingCache())
        centres.append([float(f"{value:.4g}") for value in embeddings.features[embeddings.readable].mean(0)])
        parts.append(
            measure_confidence(
                embeddings, table, statistics, seed, source=source, classifiers=classifiers or None, queries=QUERIES
            )
        )
    names = parts[0]
    return {
        "kinds": list(KINDS),
        "settings": {name: settings_of(build_classifier(name, statistics=statistics)) for name in names},
        "centres": centres,
        "classifiers": {name: [part[name].to_json() for part in parts] for name in names},
    }


def settings_of(classifier: Classifier) -> dict[str, Any]:
    """The settings that the measured classifier had; with others its calibration is another one.

    Those of unequal shots are left out: it was measured with equal ones, of which they change nothing.
    """
    plain = {
        name: value
        for name, value in vars(classifier).items()
        if value is None or isinstance(value, (bool, int, float, str))
    }
    return {name: value for name, value in plain.items() if not name.startswith("shots_")}


def main() -> int:
    """Parse, measure, write."""
    options = tyro.cli(Arguments, description=__doc__)
    try:
        known = json.loads(options.output.read_text(encoding="utf-8")) if options.output.is_file() else {}
        for backbone in options.backbones:
            found = measure(options.data, backbone, options.classifiers, options.seed)
            if options.classifiers and backbone in known:
                for part in ("settings", "classifiers"):
                    found[part] = {**known[backbone][part], **found[part]}
            known[backbone] = found
            for name, parts in found["classifiers"].items():
                errors = "; ".join(f"{part['source']} {100 * part['ece_after']:.1f} %" for part in parts)
                print(f"{backbone} {name}: expected calibration error on other classes: {errors}", flush=True)
        with atomic_write(options.output) as file:
            json.dump(dict(sorted(known.items())), file, separators=(",", ":"))
            file.write("\n")
    except (DataError, UsageError) as error:
        print(f"calibration: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
