"""A run's state and one optimiser step of it; everything random in a step is a function of (seed, step)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from clip.model import CLIP
from torch import Tensor, nn

from experiments.pretrain import augment, schedule, vocabulary
from experiments.pretrain.data import Pictures
from experiments.pretrain.losses import Heads, Targets, picture_losses, text_loss, view_contrast
from experiments.pretrain.model import Shape, encode_image, encode_text, make_clip
from experiments.pretrain.optim import make_optimizers
from experiments.pretrain.teacher import soft_labels

T = TypeVar("T", bound=nn.Module)
Replica = tuple[CLIP, Heads]


@dataclass(frozen=True)
class Settings:
    """A run's recipe. ``minutes`` wins over ``epochs`` (of the photographs) where it is given."""

    epochs: float = 60.0
    minutes: float | None = None
    shards: int = 1  # parts of a step that run side by side, one thread each; one is best on a GPU
    batch_photos: int = 336
    batch_characters: int = 48
    learning_rate: float = 1e-3
    muon_rate: float = 2e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    text_weight: float = 0.3
    text_every: int = 2  # steps; hundreds of prompts cost a sixth of a step on small pictures
    contrast_weight: float = 0.5  # of the contrast between two views of a picture; 0 shows every picture once
    contrast_temperature: float = 0.15
    teacher_weight: float = 0.7  # of a teacher's soft labels beside the labels, where there is a teacher
    teacher_scale: float = 20.0
    drop_path: float = 0.1
    mix: float = 0.5
    smallest_crop: float = 0.1
    strength: float = 1.0
    ema: float = 0.996
    seed: int = 0
    device: str = "cpu"
    precision: str = "bf16"
    compile: bool = True
    shape: Shape = field(default_factory=Shape)

    @property
    def views(self) -> int:
        """How often each photograph of a batch is in it."""
        return 2 if self.contrast_weight > 0 else 1


class Run:
    """Everything that a step changes, and that a checkpoint must hold."""

    def __init__(self, settings: Settings, photos: Pictures, characters: Pictures, teacher: CLIP | None = None) -> None:
        device = settings.device
        self.settings, self.photos, self.characters = settings, photos.to(device), characters.to(device)
        self.dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        self.soft: Tensor | None = None
        if teacher is not None:
            size, scale = settings.shape.image, settings.teacher_scale
            self.soft = soft_labels(teacher.to(device), self.photos, size, scale, self.dtype)
        tokens = [
            vocabulary.tokenise(photos.class_names, vocabulary.PHOTO_PROMPTS),
            vocabulary.tokenise(characters.class_names, vocabulary.CHARACTER_PROMPTS),
        ]
        self.token_rows = vocabulary.used_tokens(*tokens)
        self.prompts = [vocabulary.to_rows(part, self.token_rows).to(device) for part in tokens]
        self.model = make_clip(settings.shape, len(self.token_rows), settings.seed).to(device)
        generator = torch.Generator().manual_seed(settings.seed)
        classes = len(photos.class_names), len(characters.class_names)
        self.heads = Heads(*classes, settings.shape.embed, generator).to(device)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        rates = settings.learning_rate, settings.muon_rate, settings.weight_decay
        self.optimizers = make_optimizers(self.model, self.heads, *rates, settings.shards)
        self.budget, self.step = schedule.Budget(), 0
        self.replicas: list[Replica] = [(self.model, self.heads)]
        self.replicas += [(twin(self.model), twin(self.heads)) for _ in range(settings.shards - 1)]
        # A shard has one thread: what runs inside it must not start more.
        alone = partial(torch.set_num_threads, 1) if settings.shards > 1 else None
        self.pool, self.compiled_sizes = ThreadPoolExecutor(settings.shards, initializer=alone), set[int]()

    @property
    def steps_an_epoch(self) -> int:
        """Steps that see every photograph about once."""
        return max(1, len(self.photos) // self.photos_a_step)

    @property
    def photos_a_step(self) -> int:
        """Distinct photographs, of which a batch holds every view."""
        return self.settings.batch_photos // self.settings.views

    def rows(self, pictures: Pictures, batch: int, stream: int) -> Tensor:
        """The rows of this step's batch: a new permutation every pass, a function of (seed, step) alone."""
        a_pass = max(1, len(pictures) // batch)
        epoch, place = divmod(self.step, a_pass)
        generator = torch.Generator().manual_seed(seed_of(self.settings.seed, epoch, 1000 + stream))
        order = torch.randperm(len(pictures), generator=generator)[place * batch : (place + 1) * batch]
        return order.to(pictures.labels.device)

    def train_step(self) -> dict[str, float]:
        """One optimiser step; the budget is advanced by the caller. Returns the losses.

        The batch is cut into shards that see the same weights and run in a thread each. A thread that waits
        once a step loses far less than one that waits once an operation, above all on a machine with other
        work.
        """
        settings, share = self.settings, self.budget.share
        size = schedule.picture_size(share)
        photo_rows = self.rows(self.photos, self.photos_a_step, 0).chunk(settings.shards)
        char_rows = self.rows(self.characters, settings.batch_characters, 1).chunk(settings.shards)
        jobs = [partial(self.shard_backward, i, photo_rows[i], char_rows[i], size) for i in range(settings.shards)]
        # What is compiled for a new size is compiled by the first shard alone: compilation is not made for
        # threads.
        seen = self.together(jobs) if size in self.compiled_sizes else [job() for job in jobs]
        self.compiled_sizes.add(size)
        self.gather_gradients()
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.heads.parameters()], 3.0)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = group["peak"] * schedule.rate(share)
        self.together([optimizer.step for optimizer in self.optimizers])
        self.step += 1
        self.update_average()
        names = dict.fromkeys(name for part in seen for name in part)  # what was mixed differs from shard to shard
        return {name: fmean(part[name] for part in seen if name in part) for name in names}

    def together(self, jobs: Sequence[Callable[[], Any]]) -> list[Any]:
        """Run the jobs side by side when there are shards, one after the other when there are none."""
        if self.settings.shards == 1:
            return [job() for job in jobs]
        return [future.result() for future in [self.pool.submit(job) for job in jobs]]

    def shard_backward(self, index: int, photo_rows: Tensor, char_rows: Tensor, size: int) -> dict[str, float]:
        """Gradients of one shard into its own replica; returns its losses."""
        settings, (model, heads) = self.settings, self.replicas[index]
        model.zero_grad(set_to_none=True)
        heads.zero_grad(set_to_none=True)
        generator = torch.Generator().manual_seed(seed_of(settings.seed, self.step, index))
        x, targets = self.batch(photo_rows.repeat(settings.views), char_rows, size, generator)
        keep = self.keep_mask(len(x), generator)
        embedding = F.normalize(encode_image(model, x, self.dtype, keep, settings.compile), dim=-1)
        losses = picture_losses(embedding, heads, targets, settings.label_smoothing)
        total = losses["photos"] + losses["characters"]
        if settings.contrast_weight > 0 and bool((targets.share == 1).all()):  # mixed pictures have no views
            losses["views"] = view_contrast(embedding[: len(targets.share)], settings.contrast_temperature)
            total = total + settings.contrast_weight * losses["views"]
        if self.step % settings.text_every == 0:
            texts = self.class_text(model, generator)
            scale = model.logit_scale.clamp(max=math.log(100.0)).exp()
            losses["text"] = text_loss(embedding, texts, scale, targets, settings.label_smoothing)
            total = total + settings.text_every * settings.text_weight * losses["text"]
        total.backward()  # type: ignore[no-untyped-call]
        return {name: loss.item() for name, loss in losses.items()}

    @torch.no_grad()
    def batch(self, rows: Tensor, char_rows: Tensor, size: int, generator: torch.Generator) -> tuple[Tensor, Targets]:
        """Augmented photographs, then characters, (B + C, 3, size, size), and their labels."""
        settings = self.settings
        x = self.photos.pixels[rows]
        x = augment.augment_photos(x, size, settings.smallest_crop, settings.strength, generator)
        x, partner, share = augment.mix(x, schedule.mix_probability(self.budget.share, settings.mix), generator)
        turns = torch.randint(4, (len(char_rows),), generator=generator)
        drawn = self.characters.pixels[char_rows]
        drawn = augment.augment_characters(drawn, turns, size, settings.strength, generator)
        label = self.photos.labels[rows]
        targets = Targets(label, label[partner], share, self.characters.labels[char_rows], turns.to(x.device))
        if self.soft is not None:
            own = share[:, None]
            soft = own * self.soft[rows] + (1 - own) * self.soft[rows[partner]]
            targets = replace(targets, soft=soft, soft_weight=settings.teacher_weight)
        return torch.cat([x, drawn]), targets

    def keep_mask(self, batch: int, generator: torch.Generator) -> Tensor | None:
        """Stochastic depth, rising with depth (Huang et al. 2016, arXiv 1603.09382): (layers, 2, B)."""
        if self.settings.drop_path == 0:
            return None
        layers = self.settings.shape.layers
        kept = 1 - self.settings.drop_path * torch.linspace(0, 2, layers).view(layers, 1, 1)
        mask = (torch.rand(layers, 2, batch, generator=generator) < kept) / kept
        return mask.to(self.settings.device, self.dtype)

    def class_text(self, model: CLIP, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Unit text embeddings of every photo class and every character class, each in a prompt drawn at random."""
        chosen = []
        for prompts in self.prompts:
            pick = torch.randint(len(prompts), (prompts.shape[1],), generator=generator).to(prompts.device)
            chosen.append(prompts[pick, torch.arange(prompts.shape[1], device=prompts.device)])
        text = F.normalize(encode_text(model, torch.cat(chosen), self.dtype), dim=-1)
        return text[: len(chosen[0])], text[len(chosen[0]) :]

    @torch.no_grad()
    def gather_gradients(self) -> None:
        """The mean of the shards' gradients into the first, whose parameters the optimisers hold."""
        grads = [
            [p.grad for part in replica for p in part.parameters() if p.grad is not None] for replica in self.replicas
        ]
        for other in grads[1:]:
            torch._foreach_add_(grads[0], other)
        if len(grads) > 1:
            torch._foreach_mul_(grads[0], 1 / len(grads))

    @torch.no_grad()
    def update_average(self) -> None:
        """The exponential average of the weights, shorter while the run is young."""
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        values = [parameter.detach() for parameter in self.model.parameters()]
        torch._foreach_lerp_(list(self.average.parameters()), values, 1 - decay)

    def save(self, path: Path) -> None:
        """Write a checkpoint beside its place and move it in."""
        state = {
            "settings": asdict(self.settings),
            "step": self.step,
            "budget": asdict(self.budget),
            "token_rows": self.token_rows,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizers": [part.state_dict() for part in self.optimizers],
        }
        unfinished = path.with_suffix(".partial")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def load(self, path: Path) -> None:
        """Take up the state of a checkpoint of the same data, sizes and shards; the recipe may differ."""
        state = torch.load(path, map_location=self.settings.device, weights_only=True)
        if not torch.equal(state["token_rows"], self.token_rows) or len(state["optimizers"]) != len(self.optimizers):
            raise ValueError(f"{path}: made with other classes or another number of shards; resume it with those")
        self.step, self.budget = state["step"], schedule.Budget(**state["budget"])
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.heads.load_state_dict(state["heads"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def twin(module: T) -> T:
    """A copy with gradients of its own whose parameters are the original's memory."""
    copied = copy.deepcopy(module)
    for mine, theirs in zip(copied.parameters(), module.parameters(), strict=True):
        mine.data = theirs.data
    return copied


def seed_of(seed: int, step: int, stream: int) -> int:
    """One generator seed from three small numbers."""
    return (seed * 1_000_003 + step) * 2003 + stream
