"""The settings of a training run. Importable without torch: the command line is made from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from episodes.errors import UsageError
from episodes.ranges import parse_range
from fewshot.images.augmentation import Augmentation
from fewshot.limits import Count, CountOrRange, EmbedViews, Share, Ways, Within, Workers
from fewshot.options import ComputeOptions, own_fields_first

Rate = Annotated[float, Within(0, 100)]
Tune = Literal["blocks", "norms", "projection", "lora"]
Method = Literal["prototypical", "anil", "maml", "meta-sgd", "protomaml"]


@own_fields_first
@dataclass(frozen=True)
class TrainConfig(ComputeOptions):
    """Everything that a training run depends on; the defaults are the original design's."""

    train_data: Path
    """Training pictures, one folder a class: train_data/<class>/<picture>."""
    val_data: Path | None = None
    """Validation pictures of other classes; without it, a third of the training classes is held out, at most 20 or a tenth."""
    test_data: tuple[Path, ...] = ()
    """Folders that the result will be measured on (class folders or tasks): only checked for classes and pictures that training shares."""
    output: Path | None = None
    """Folder of the run; runs/<time>-<backbone> unless given. A finished run is never overwritten."""
    resume: bool = False
    """Continue the unfinished run in --output (or the newest one below runs/) as if it had not stopped."""

    backbone: str = "ViT-B/32"
    """A CLIP name (ViT-B/32, RN50, ...), lite2, lite0, tiny, open_clip:<model>/<tag>, timm:<name>, or the path of a weights file in
    OpenAI's format."""
    download_root: Path | None = None
    """Where 'fewshot download' put the weights."""
    embed_views: EmbedViews = 1
    """Embed a picture as the mean of this many views: 2 adds a centre zoom, 4 also mirrors both. Each takes the encoder's time once
    more, in validation and wherever the checkpoint is used; training pictures are augmented as ever."""
    unfreeze_blocks: Annotated[int, Within(0, 10_000)] | Literal["all"] = 6
    """Train the last N blocks with the final norm and projection; 0 trains the classifier alone."""

    tune: Tune = "blocks"
    """What of the last N blocks is trained: all of it with what follows; the norms' scales and shifts; low-rank additions to their matrices
    (LoRA, extra [lora]); or no block, but the last matrix, which makes the embedding."""
    lora_rank: Annotated[int, Within(1, 1024)] = 8
    """Rank of the additions under --tune lora."""

    epochs: Annotated[int, Within(1, 100_000)] = 30
    """Passes over as many pictures as there are training pictures."""
    batch_size: Count = 32
    """Pictures a step, over all processes."""
    ways: Ways | None = None
    """Classes an episode (5, or 5-20 for a range); unset, one episode fills a batch."""
    shots: CountOrRange = 1
    """Support pictures a class (1, or 1-10 for a range)."""
    queries: Count = 3
    """Query pictures a class."""

    method: Method = "prototypical"
    """How an episode's queries are named, in training and by what comes of it: prototypes; or, by gradient steps on the support (with
    learn2learn), a head alone (anil), or a head and the last block (maml; meta-sgd, with learned rates; protomaml, from prototypes)."""
    inner_lr: Annotated[float, Within(0, 100, above=True)] = 0.1
    """Learning rate of those steps; of meta-sgd where its rates begin."""
    inner_steps: Annotated[int, Within(1, 1000)] = 5
    """How many of them, in training and after it."""
    first_order: bool = False
    """Leave the second derivatives out of training's gradient: faster, and less memory."""

    visual_lr: Rate = 1e-5
    """Peak learning rate of the encoder's unfrozen part."""
    classifier_lr: Rate = 5e-4
    """Peak learning rate of the residual classifier and the learned scale."""
    episode_loss: Literal["prototypical", "nca"] = "prototypical"
    """Queries against their episode's prototypes, or every pair of the batch (NCA; metrics.csv names either prototypical_loss)."""
    prototypical_weight: Annotated[float, Within(0, 1_000_000)] = 1.0
    """Weight of the prototypical loss, or of NCA."""
    class_weight: Annotated[float, Within(0, 1_000_000)] = 1.0
    """Weight of the residual classifier's cross-entropy over the training classes."""
    weight_decay: Rate = 0.05
    """AdamW's decay; norms, biases, embeddings of position and the scale are exempt."""
    scale: Literal["learned", "fixed"] = "learned"
    """The factor on the cosine, which starts at 10."""
    anchor: Annotated[float, Within(0, 1_000_000)] = 0.0
    """Weight of half the squared distance to the pretrained weights (L2-SP)."""
    dropout: Share = 0.1
    """In the residual classifier."""
    residual: bool = True
    """The residual classifier with the connection around its first layer."""
    label_smoothing: Share = 0.0
    """Of the residual classifier's targets."""
    warmup: Share = 0.05
    """Share of the steps over which learning rates rise, before the cosine."""
    head_warmup: Share = 0.05
    """Share of the steps at the start in which the encoder stays frozen and the classifier learns alone."""
    clip_norm: Annotated[float, Within(0)] = 1.0
    """Gradient norms are clipped to this."""

    augmentation: Augmentation = field(default_factory=Augmentation)
    """Random crops, flips and colours."""
    views: Count | None = None
    """Give every picture this many fixed augmented views instead of augmenting anew each time; lets --trunk_cache work."""
    trunk_cache: Literal["auto", "on", "off"] = "auto"
    """With --views: compute what the frozen blocks make of each view once and keep it on disk; auto does so where it pays."""

    mix: Annotated[float, Within(0, 1, above=True)] | None = None
    """Keep this mix of old and tuned weights (1 is the tuned ones) whatever validation says; unset, validation decides."""

    val_ways: Annotated[int, Within(2, 1_000_000)] = 5
    """Classes of a validation episode."""
    val_shots: Count | None = None
    """Support pictures a class in validation; the upper end of --shots unless given."""
    val_queries: Count = 15
    """Query pictures a class in validation; fewer where classes are small."""
    val_episodes: Count = 600
    """Validation episodes, the same ones after every epoch."""

    nested: bool = False
    """Class folders lie deeper: train_data/<group>/<class>/<picture>."""
    min_images: Count = 1
    """Leave out classes with fewer pictures."""
    workers: Workers | None = None
    """Processes that load pictures; by default as many as cores, at most 8."""
    no_cache: bool = False
    """Neither read nor write the cache of embeddings."""
    strict: bool = False
    """Refuse where pictures cannot be read or folders share classes or pictures."""

    def __post_init__(self) -> None:
        """Check every setting before anything is read.

        Raises:
            UsageError: A setting outside what makes sense, named with its value and what is allowed.
        """
        super().__post_init__()
        if self.trunk_cache == "on" and (self.views is None or self.unfreeze_blocks == "all"):
            why = (
                "--views: without it every picture looks new each time"
                if self.views is None
                else "frozen blocks: none are"
            )
            raise UsageError(f"trunk_cache is on, but needs {why}")
        if self.anchor and self.tune == "lora":
            raise UsageError(
                "anchor pulls weights towards the pretrained ones, and --tune lora trains none of them: leave one out"
            )
        if self.prototypical_weight == 0 and self.class_weight == 0:
            raise UsageError("prototypical_weight and class_weight are both 0: there is nothing to learn from")
        if self.method != "prototypical" and self.episode_loss != "prototypical":
            raise UsageError(
                f"episode_loss {self.episode_loss} compares pictures in pairs, and method {self.method} does not: leave one out"
            )
        if self.steps_encoder and (self.unfreeze_blocks == 0 or self.embed_views > 1 or self.tune != "blocks"):
            why = "at least one unfrozen block" if self.unfreeze_blocks == 0 else "one view a picture (--embed_views 1)"
            why = why if self.tune == "blocks" else "--tune blocks"
            raise UsageError(f"method {self.method} steps the encoder's last block on every task, which needs {why}")

    @property
    def steps_encoder(self) -> bool:
        """Whether the method's steps on a task change the encoder."""
        return self.method not in ("prototypical", "anil")

    @property
    def shot_range(self) -> int | tuple[int, int]:
        """Shots as a number or an inclusive range."""
        return parse_range(self.shots, "shots")

    @property
    def way_range(self) -> int | tuple[int, int] | None:
        """Ways as a number or an inclusive range; None where it follows from the batch."""
        return None if self.ways is None else parse_range(self.ways, "ways")

    def to_json(self) -> dict[str, Any]:
        """The settings for `config.json`.

        Returns:
            Name -> value; paths as strings, tuples as lists.
        """

        def plain(value: Any) -> Any:
            if isinstance(value, tuple):
                return [plain(part) for part in value]
            return str(value) if isinstance(value, Path) else value

        return {key: plain(value) for key, value in dataclasses.asdict(self).items()}


#: Settings that may differ when a run is resumed: they do not change what is learned.
FREE_ON_RESUME = frozenset({"resume", "output", "workers", "quiet", "json", "no_cache", "download_root", "test_data"})
