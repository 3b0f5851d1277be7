"""Options that every computing command has, and what they mean."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from episodes.errors import UsageError
from episodes.files import display_name, is_printable
from fewshot.classifiers import needs
from fewshot.limits import EmbedViews, Threads
from fewshot.options import ComputeOptions

if TYPE_CHECKING:
    from torch import Tensor

    from fewshot.adaptation.meta import Naming
    from fewshot.classifiers.base import Classifier, Statistics
    from fewshot.classifiers.kinds import Calibration
    from fewshot.classifiers.learned import Steps
    from fewshot.embedding.cache import EmbeddingCache
    from fewshot.encoders.base import Embedder
    from fewshot.opening import LoadedEncoder


@dataclass(frozen=True, kw_only=True)
class Common(ComputeOptions):
    """Options common to the commands that embed pictures."""

    workers: Threads | None = None
    """Threads that decode pictures; one a core by default."""
    no_cache: bool = False
    """Neither read nor write the cache of embeddings."""
    strict: bool = False
    """Refuse, before anything is written, where some input cannot be read."""

    @property
    def cache(self) -> EmbeddingCache | None:
        """The cache of embeddings, unless it is switched off."""
        from fewshot.embedding.cache import EmbeddingCache

        return None if self.no_cache else EmbeddingCache()


@dataclass(frozen=True, kw_only=True)
class WithEncoder(Common):
    """Options that say which encoder."""

    checkpoint: Path | None = None
    """A folder that 'fewshot train' made."""
    backbone: str | None = None
    """An untouched encoder instead: a CLIP name (ViT-B/32, RN50, ...), lite2, lite0, tiny, open_clip:<model>/<tag>, timm:<name>, a
    weights file in OpenAI's format, or several of these together, joined by + (lite2+tiny)."""
    download_root: Path | None = None
    """Where 'fewshot download' put the weights."""
    embed_views: EmbedViews | None = None
    """Embed a picture as the mean of this many views: 2 adds a centre zoom (more accurate, takes twice the time), 4 also mirrors both. 1,
    or what the checkpoint was validated with."""


@dataclass(frozen=True, kw_only=True)
class WithClassifier(WithEncoder):
    """Options of what classifiers need besides pictures."""

    statistics: Path | None = None
    """Class folders to take the mean and covariance from that simpleshot and gda need; a checkpoint brings its own."""
    learned: Path | None = None
    """What 'fewshot learn' wrote for the classifier 'learned'; a checkpoint may have its own, others use the package's."""
    prompt: tuple[str, ...] = ()
    """Sentences with {} for the class name, for zero-shot and text-blend; CLIP's own unless given."""


def weights_file(options: WithEncoder) -> Path | None:
    """The file that --backbone names, where it names one."""
    return Path(options.backbone) if options.backbone is not None and Path(options.backbone).is_file() else None


def load_chosen_encoder(options: WithEncoder) -> LoadedEncoder:
    """The encoder that the options name; says so in one plain line where it is an untouched default.

    Raises:
        UsageError: both a checkpoint and a backbone.
    """
    from fewshot.device import resolve_device
    from fewshot.opening import DeferredCheckpoint, LoadedEncoder, open_backbone

    if options.checkpoint is not None and options.backbone is not None:
        raise UsageError("--checkpoint and --backbone exclude each other: a checkpoint holds its own encoder")
    device = resolve_device(options.device)
    console = options.console
    if options.checkpoint is not None:
        loaded = DeferredCheckpoint(options.checkpoint, device, options.cache)
        validated = loaded.encoder.embed_views
        loaded.encoder.embed_views = options.embed_views or validated
        if loaded.encoder.embed_views != validated:
            console.line(
                f"{loaded.encoder.embed_views} views a picture; {options.checkpoint} was validated, and its confidence measured, with "
                f"{validated}"
            )
        kind = "tuned" if loaded.tuned else "untouched (tuning was not better on validation)"
        console.line(f"encoder: {kind} {loaded.backbone} of {options.checkpoint}")
        return LoadedEncoder(loaded.encoder, loaded.backbone, loaded)
    name = options.backbone or "ViT-B/32"
    encoder = open_backbone(name, device, options.download_root, options.cache)
    encoder.embed_views = options.embed_views or 1
    console.line(f"encoder: the untouched {name}; no checkpoint was given (fewshot train makes one)")
    return LoadedEncoder(encoder, name, None)


def own_naming(options: WithEncoder, loaded: LoadedEncoder) -> Naming | None:
    """How the checkpoint's own method names queries, where nothing else was asked for; None without such a method."""
    method = loaded.checkpoint.own_method if loaded.checkpoint else None
    if (
        loaded.checkpoint is None
        or method is None
        or any(getattr(options, each, None) for each in ("classifier", "adapt"))
    ):
        return None
    from fewshot.adaptation.meta import naming

    return naming(method, loaded.checkpoint.scale)


def check_adaptable(adapt: str | None, encoder: Embedder) -> None:
    """Refuse what does not go together: tuning on a task is of one encoder, and sees each picture once.

    Raises:
        UsageError: `--adapt`, or a method that steps the encoder, with several views, or with several encoders together.
    """
    if adapt is not None and len(encoder.parts) > 1:
        raise UsageError(
            f"--adapt tunes one encoder, and {encoder.name} is {len(encoder.parts)}: name one, or leave --adapt out"
        )
    if adapt is not None and encoder.embed_views > 1:
        raise UsageError(
            f"what tunes the encoder on a task ({adapt}) works with one view a picture, not with {encoder.embed_views}: give "
            "--embed_views 1, or leave it out"
        )


def statistics_for(
    options: WithClassifier, loaded: LoadedEncoder, classifiers: Sequence[str], *, untouched: bool = False
) -> Statistics | None:
    """Training-class statistics under the loaded encoder, or the one from before tuning; None where there are none.

    None too where none of the classifiers would look at them.
    """
    if not any(needs(name, "statistics") for name in classifiers):
        return None
    from fewshot.classifiers.statistics import statistics_of_folder

    if options.statistics is not None:
        with options.console.bar(f"statistics of {options.statistics}") as advance:
            return statistics_of_folder(
                loaded.checkpoint.untouched_encoder() if untouched and loaded.checkpoint else loaded.encoder,
                options.statistics,
                seed=options.seed,
                precision=options.precision,
                workers=options.workers,
                cache=options.cache,
                progress=advance,
            )
    if loaded.checkpoint is not None and untouched:
        return loaded.checkpoint.original_statistics
    return loaded.statistics


def calibration_for(
    options: WithClassifier, loaded: LoadedEncoder, *, untouched: bool = False
) -> Mapping[str, Calibration]:
    """Classifier -> what is known of its confidence over the loaded encoder, or the one from before tuning; missing where nothing is."""
    from fewshot.classifiers import NEEDS_STATISTICS
    from fewshot.classifiers.shipped import shipped_calibration

    known = shipped_calibration(loaded.backbone) if untouched else loaded.calibration
    if options.statistics is None:
        return known
    return {
        name: each for name, each in known.items() if name not in NEEDS_STATISTICS
    }  # measured with other statistics


def steps_for(options: WithClassifier, loaded: LoadedEncoder) -> Steps | None:
    """Steps of the classifier 'learned' that were learned for the encoder; None for those of the package.

    Raises:
        DataError: their file is damaged.
    """
    from fewshot.classifiers.learned import Steps

    if options.learned is not None:
        return Steps.read(options.learned)
    return loaded.steps


def classifier_for(options: WithClassifier, loaded: LoadedEncoder, name: str) -> Classifier:
    """The classifier of that name, with what it needs to know of the encoder.

    Raises:
        UsageError: the name is unknown, or the classifier needs what there is not.
    """
    from fewshot.classifiers import build_classifier

    return build_classifier(
        name,
        statistics=statistics_for(options, loaded, [name]),
        encoder=loaded.encoder,
        steps=steps_for(options, loaded),
    )


def texts_for(
    options: WithClassifier, loaded: LoadedEncoder, classifiers: Sequence[str], class_names: Sequence[str]
) -> dict[str, Tensor] | None:
    """Text embeddings of the class names, where one of the classifiers uses names."""
    if not any(needs(name, "text") for name in classifiers):
        return None
    from fewshot.encoders.prompts import CLIP_TEMPLATES
    from fewshot.encoders.text import class_texts

    return class_texts(
        class_names,
        loaded.backbone,
        templates=options.prompt or CLIP_TEMPLATES,
        device=loaded.encoder.device,
        download_root=options.download_root,
    )


def print_json(document: Any) -> None:
    """One JSON document on standard output; numbers that are not finite become null, names that are not UTF-8 are escaped."""
    json.dump(_plain(document), sys.stdout, ensure_ascii=False, indent=2, allow_nan=False)
    print()


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, str):
        return value if is_printable(value) else display_name(value)
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
