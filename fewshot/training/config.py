"""The settings of a training run. Importable without torch: the command line is made from it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from episodes.errors import UsageError
from episodes.ranges import parse_range, upper
from fewshot.images.augmentation import Augmentation


@dataclass(frozen=True)
class TrainConfig:
    """Everything that a training run depends on; the defaults are the original design's."""

    train_data: Path
    """Training pictures, one folder a class: train_data/<class>/<picture>."""
    val_data: Path | None = None
    """Validation pictures of other classes; without it, a tenth of the training classes is held out."""
    test_data: tuple[Path, ...] = ()
    """Folders that the result will be measured on (class folders or tasks): only checked for classes and pictures that training shares."""
    output: Path | None = None
    """Folder of the run; runs/<time>-<backbone> unless given. A finished run is never overwritten."""
    resume: bool = False
    """Continue the unfinished run in --output (or the newest one below runs/) as if it had not stopped."""

    backbone: str = "ViT-B/32"
    """A CLIP name (ViT-B/32, RN50, ...), tiny, open_clip:<model>/<tag>, timm:<name>, or the path of a weights file in OpenAI's
    format."""
    download_root: Path | None = None
    """Where 'fewshot download' put the weights."""
    unfreeze_blocks: int | Literal["all"] = 6
    """Train the last N blocks with the final norm and projection; 0 trains the classifier alone."""

    epochs: int = 30
    """Passes over as many pictures as there are training pictures."""
    batch_size: int = 32
    """Pictures a step, over all processes."""
    ways: int | str | None = None
    """Classes an episode (5, or 5-20 for a range); unset, one episode fills a batch."""
    shots: int | str = 1
    """Support pictures a class (1, or 1-10 for a range)."""
    queries: int = 3
    """Query pictures a class."""

    visual_lr: float = 1e-5
    """Peak learning rate of the encoder's unfrozen part."""
    classifier_lr: float = 5e-4
    """Peak learning rate of the residual classifier and the learned scale."""
    prototypical_weight: float = 1.0
    """Weight of the prototypical loss."""
    class_weight: float = 1.0
    """Weight of the residual classifier's cross-entropy over the training classes."""
    weight_decay: float = 0.05
    """AdamW's decay; norms, biases, embeddings of position and the scale are exempt."""
    dropout: float = 0.1
    """In the residual classifier."""
    label_smoothing: float = 0.0
    """Of the residual classifier's targets."""
    warmup: float = 0.05
    """Share of the steps over which learning rates rise, before the cosine."""
    head_warmup: float = 0.05
    """Share of the steps at the start in which the encoder stays frozen and the classifier learns alone."""
    clip_norm: float = 1.0
    """Gradient norms are clipped to this."""

    augmentation: Augmentation = field(default_factory=Augmentation)
    """Random crops, flips and colours."""
    views: int | None = None
    """Give every picture this many fixed augmented views instead of augmenting anew each time; lets --trunk_cache work."""
    trunk_cache: Literal["auto", "on", "off"] = "auto"
    """With --views: compute what the frozen blocks make of each view once and keep it on disk; auto does so where it pays."""

    val_ways: int = 5
    """Classes of a validation episode."""
    val_shots: int | None = None
    """Support pictures a class in validation; the upper end of --shots unless given."""
    val_queries: int = 15
    """Query pictures a class in validation; fewer where classes are small."""
    val_episodes: int = 600
    """Validation episodes, the same ones after every epoch."""

    nested: bool = False
    """Class folders lie deeper: train_data/<group>/<class>/<picture>."""
    min_images: int = 1
    """Leave out classes with fewer pictures."""
    seed: int = 0
    """Every random choice follows from it."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    """Arithmetic of the encoder: bfloat16 where the hardware has it."""
    workers: int | None = None
    """Processes that load pictures; by default as many as cores, at most 8."""
    no_cache: bool = False
    """Neither read nor write the cache of embeddings."""
    strict: bool = False
    """Refuse where pictures cannot be read or folders share classes or pictures."""
    quiet: bool = False
    """Print only the result."""
    json: bool = False
    """Print one machine-readable document and nothing else."""

    def __post_init__(self) -> None:
        """Raises UsageError: a setting outside what makes sense, named with its value."""
        for name in ("epochs", "batch_size", "queries", "val_ways", "val_queries", "val_episodes"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}: expected at least 1")
        if self.views is not None and self.views < 1:
            raise UsageError(f"views is {self.views}: expected at least 1")
        if self.trunk_cache == "on" and (self.views is None or self.unfreeze_blocks == "all"):
            why = (
                "--views: without it every picture looks new each time"
                if self.views is None
                else "frozen blocks: none are"
            )
            raise UsageError(f"trunk_cache is on, but needs {why}")
        if self.workers is not None and self.workers < 0:
            raise UsageError(f"workers is {self.workers}: expected 0 or more")
        for name in ("visual_lr", "classifier_lr", "prototypical_weight", "class_weight", "weight_decay", "clip_norm"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise UsageError(f"{name} is {getattr(self, name)}: expected a number of at least 0")
        for name in ("warmup", "head_warmup", "dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}: expected a share in [0, 1)")
        if self.prototypical_weight == 0 and self.class_weight == 0:
            raise UsageError("prototypical_weight and class_weight are both 0: there is nothing to learn from")
        self.shot_range, self.way_range  # noqa: B018  (they validate)

    @property
    def shot_range(self) -> int | tuple[int, int]:
        """Shots as a number or an inclusive range."""
        return parse_range(self.shots, "shots")

    @property
    def way_range(self) -> int | tuple[int, int] | None:
        """Ways as a number or an inclusive range; None where it follows from the batch."""
        return None if self.ways is None else parse_range(self.ways, "ways")

    def to_json(self) -> dict[str, Any]:
        """A dictionary for `config.json`; paths as strings."""

        def plain(value: Any) -> Any:
            if isinstance(value, tuple):
                return [plain(part) for part in value]
            return str(value) if isinstance(value, Path) else value

        return {key: plain(value) for key, value in dataclasses.asdict(self).items()}


#: Settings that may differ when a run is resumed: they do not change what is learned.
FREE_ON_RESUME = frozenset({"resume", "output", "workers", "quiet", "json", "no_cache", "download_root", "test_data"})


@dataclass(frozen=True)
class EpisodePlan:
    """Ways, and episodes and steps that follow from the batch."""

    ways: int | tuple[int, int]
    episodes_per_step: int
    steps_per_epoch: int


def plan_episodes(config: TrainConfig, n_images: int, n_eligible: int, processes: int = 1) -> EpisodePlan:
    """How a batch is made of episodes.

    Unset ways: batch_size // (shots + queries), so that one episode fills the batch (at most the eligible classes). Set, the
    batch holds batch_size // (ways * (shots + queries)) episodes, shared evenly among the processes.

    Raises:
        UsageError: the batch is too small for one episode a process; names the smallest that works.
    """
    per_class = upper(config.shot_range) + config.queries
    ways = config.way_range
    if ways is None:
        ways = min(config.batch_size // (per_class * processes), n_eligible)
        if ways < 2:
            raise UsageError(
                f"batch_size {config.batch_size} holds no episode of at least 2 classes with {per_class} pictures each"
                f"{f' for each of {processes} processes' if processes > 1 else ''}: the smallest that works is {2 * per_class * processes}"
                if n_eligible >= 2
                else f"an episode needs at least 2 classes with {per_class} pictures each; found {n_eligible}"
            )
    episodes = config.batch_size // (upper(ways) * per_class)
    episodes -= episodes % processes
    if episodes < processes:
        raise UsageError(
            f"batch_size {config.batch_size} is too small for {processes} episode(s) of {upper(ways)} ways x {per_class} pictures: "
            f"the smallest that works is {upper(ways) * per_class * processes}"
        )
    return EpisodePlan(ways, episodes, math.ceil(n_images / config.batch_size))
