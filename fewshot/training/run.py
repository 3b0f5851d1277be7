"""The parts of a training run: data, encoder, optimiser, folder, processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from episodes import EpisodeSampler
from episodes.counter_random import random_bits
from episodes.errors import DataError, UsageError
from episodes.files import display_name
from episodes.wording import counted
from fewshot import run_files
from fewshot.adaptation.meta import method_of
from fewshot.config import TrainConfig
from fewshot.console import Console
from fewshot.device import resolve_precision
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.hidden_states import HiddenStates, HiddenStatesKey
from fewshot.encoders import load_encoder
from fewshot.encoders.base import VisionEncoder
from fewshot.training import state as run_state
from fewshot.training.data import default_workers, read_split, refuse_beyond_memory
from fewshot.training.disk_space import bytes_of_run, require_room
from fewshot.training.fabric import make_fabric
from fewshot.training.held_out import Split
from fewshot.training.hidden_state_cache import HiddenStateCache
from fewshot.training.metrics import Metrics, Row
from fewshot.training.model import EpisodicModel
from fewshot.training.optimiser import Schedule, build_optimiser
from fewshot.training.plan import EpisodePlan, plan_episodes
from fewshot.training.run_folder import check_same_data, output_folder
from fewshot.training.selection import Selection, set_weights
from fewshot.training.tuned_part import mark_tuned, to_train
from fewshot.training.validation import Validation
from fewshot.version import __version__

# In config.json: behind how many blocks training's hidden states come; null without a cache.
TRUNK_BLOCKS = "trunk_blocks"


class Run:
    """The parts of one run, set up once. All checks come first; only then is anything written."""

    def __init__(self, config: TrainConfig, console: Console) -> None:
        self.config, self.console = config, console
        self.fabric = make_fabric(config)
        self.main = self.fabric.global_rank == 0
        if not self.main:
            self.console = Console(quiet=True)
        self.workers = default_workers(config.workers)
        self._agree(lambda: output_folder(config))  # looked at before anything that takes time
        self.split: Split = read_split(config, self.console)
        self.encoder: VisionEncoder = load_encoder(config.backbone, download_root=config.download_root)
        self.encoder.embed_views = config.embed_views
        mark_tuned(self.encoder, config)
        self.plan: EpisodePlan = self._plan()
        self.original = run_state.trainable_weights(self.encoder)
        self.model = EpisodicModel(
            to_train(self.encoder, config, random_bits(config.seed, "lora") >> 1),
            len(self.split.train.class_names),
            dropout=config.dropout,
            prototypical_weight=config.prototypical_weight,
            class_weight=config.class_weight,
            label_smoothing=config.label_smoothing,
            episode_loss=config.episode_loss,
            scale=config.scale,
            anchor=config.anchor,
            residual=config.residual,
            method=method_of(config, self.encoder),
            seed=random_bits(config.seed, "classifier") >> 1,
        )
        self.optimiser = build_optimiser(self.model, config)
        steps = self.plan.steps_per_epoch * config.epochs
        self.schedule = Schedule(steps, config.warmup, config.head_warmup if self.original else 0.0)
        self.cache = None if config.no_cache else EmbeddingCache()
        self.validation = Validation(self.split.validation, config, self.workers, self.cache, self.model)
        self.sampler = self._sampler()
        # Everything that can be wrong with settings and data has been looked at: only now is anything written.
        self.folder = self._claim_folder()
        self.wrapped, self.wrapped_optimiser = self.fabric.setup(self.model, self.optimiser)
        self.encoder.to(self.fabric.device)  # under LoRA it is no part of the model
        self.hidden_state_cache = HiddenStateCache(config, self.encoder, self.workers, self.folder, self.console)
        self.hidden_states: HiddenStates | None = None
        self.on_epoch: Callable[[Row], None] | None = None  # told every epoch's row of metrics, on rank 0
        self.metrics: Metrics | None = None  # of rank 0, once it is known whether the run goes on from somewhere

    def show_tuned(self) -> None:
        """Give the encoder that is validated the weights that training has by now; they are its own, but under LoRA."""
        if self.model.encoder is not self.encoder:
            set_weights(self.encoder, run_state.tuned_weights(self.model))

    def _plan(self) -> EpisodePlan:
        table, config = self.split.train, self.config
        per_class = (config.shot_range if isinstance(config.shot_range, int) else config.shot_range[1]) + config.queries
        eligible = int((table.counts >= per_class).sum())
        plan = plan_episodes(config, len(table), eligible, self.fabric.world_size)
        refuse_beyond_memory(config.batch_size // self.fabric.world_size, self.encoder.image_size, self.fabric.device)
        self.console.line(
            f"{counted(plan.episodes_per_step, 'episode')} a step: {plan.ways}-way {config.shots}-shot, {config.queries} queries a class; "
            f"{plan.steps_per_epoch} steps an epoch"
        )
        if eligible < len(table.class_names):
            self.console.line(
                f"  {eligible} of {len(table.class_names)} classes have the {per_class} pictures that an episode needs; the others "
                "take no part"
            )
        return plan

    def _sampler(self) -> EpisodeSampler:
        return EpisodeSampler(
            self.split.train,
            ways=self.plan.ways,
            shots=self.config.shot_range,
            queries=self.config.queries,
            seed=random_bits(self.config.seed, "training") >> 1,
            episodes=self.plan.episodes_per_step * self.schedule.steps,
        )

    def _agree(self, find: Callable[[], Path]) -> Path:
        """What the first process finds, in every process; its errors too."""
        found: Any = None
        if self.main:
            try:
                found = find()
            except (DataError, UsageError) as error:
                found = error
        found = self.fabric.broadcast(found)
        if isinstance(found, Exception):
            raise found
        return Path(found)

    def _folder_with_room(self) -> Path:
        folder = output_folder(self.config)
        require_room(folder, bytes_of_run(self.model))
        return folder

    def _claim_folder(self) -> Path:
        """The run's folder, with its config.json written; every process gets the same."""
        folder = self._agree(self._folder_with_room)
        if self.main:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(".*.tmp"):  # of a run that was killed while it wrote
                left.unlink(missing_ok=True)
            if (folder / run_files.RESUME).exists():
                check_same_data(folder, self.describe(None))
            else:
                run_files.write_config(folder, self.describe(None))
        return folder

    def open_hidden_states(self) -> None:
        """Find or compute what stands for pictures, which may take long; None where training starts from pictures."""
        self.hidden_states = self._hidden_states()

    def _hidden_states(self) -> HiddenStates | None:
        """The validation's trunk on rank 0, and that of training where it is to be used, in every process."""
        table, seed = self.split.train, self.augmentation_seed()
        chosen: tuple[int, HiddenStatesKey] | None = None
        if self.main:
            self.validation.hidden_states = self.hidden_state_cache.of_plain(self.validation.table)
            described = run_files.read_config(self.folder)
            if TRUNK_BLOCKS not in described:  # a resumed run goes on as it began, whatever the disk says by now
                passes = self.config.epochs * self.plan.steps_per_epoch * self.pictures_per_step()
                described[TRUNK_BLOCKS] = self.hidden_state_cache.decide(table, passes, seed)
                run_files.write_config(self.folder, described)
            if described[TRUNK_BLOCKS] is not None:
                chosen = described[TRUNK_BLOCKS], self.hidden_state_cache.training_key(table, seed)
        chosen = self.fabric.broadcast(chosen)
        if chosen is None:
            return None
        blocks, key = chosen
        self.model.cached_blocks = blocks
        first = self.hidden_state_cache.of_training(table, blocks, key, seed) if self.fabric.local_rank == 0 else None
        self.fabric.barrier()
        return self.hidden_state_cache.of_training(table, blocks, key, seed) if first is None else first

    def augmentation_seed(self) -> int:
        """The seed from which augmented views are drawn."""
        return random_bits(self.config.seed, "augmentation") >> 1

    def describe(self, selection: Selection | None, best_epoch: int = 0) -> dict[str, Any]:
        """What config.json says."""
        table = self.split.train
        chosen = None
        if selection is not None:
            chosen = {
                "epoch": best_epoch,
                "alpha": selection.alpha,
                "difference": selection.difference.mean,
                "difference_ci95": selection.half_width,
                "about": self.split.about,
                "classes": self.validation.deciding,
            }
        return {
            "fewshot": __version__,
            "torch": torch.__version__,
            "backbone": self.config.backbone,
            **run_files.describe_encoder(self.encoder, self.config.backbone),
            "precision": self.precision(),
            "processes": self.fabric.world_size,
            "threads": torch.get_num_threads(),
            "ways": self.plan.ways,
            "episodes_per_step": self.plan.episodes_per_step,
            "steps_per_epoch": self.plan.steps_per_epoch,
            "split": self.split.note,
            "validation_classes": list(self.split.validation.class_names),
            "selected": chosen,
            **({TRUNK_BLOCKS: self.model.cached_blocks} if selection is not None else {}),
            "settings": self.config.to_json(),
            "class_names": list(table.class_names),
            "pictures": {"train": len(table), "validation": len(self.split.validation)},
        }

    def precision(self) -> str:
        """The precision that the setting resolves to on this device."""
        return resolve_precision(self.config.precision, self.fabric.device)

    def pictures_per_step(self) -> int:
        """How many pictures a step takes, on the average where ways or shots are ranges."""
        ways = self.plan.ways if isinstance(self.plan.ways, int) else sum(self.plan.ways) / 2
        shots = self.config.shot_range
        shots_mean = shots if isinstance(shots, int) else sum(shots) / 2
        return int(self.plan.episodes_per_step * ways * (shots_mean + self.config.queries))

    def add_row(self, kind: str, val: tuple[float, float] | None = None, **values: Any) -> None:
        """A row of metrics.csv; `val` is accuracy on validation and its 95 % half-width."""
        if self.metrics is not None:
            measured = (
                {"val_accuracy": val[0], "val_ci95": val[1], "val_episodes": self.config.val_episodes} if val else {}
            )
            self.metrics.add(kind, **values, **measured)

    def name_problem(self, state: run_state.RunState, path: str, problem: str) -> None:
        """Name an unreadable picture, once a run.

        Raises:
            DataError: `strict`.
        """
        path = display_name(path)
        if path not in state.named:
            state.named[path] = problem
            if self.config.strict:
                raise DataError(
                    f"{path}: cannot be read ({problem}). Remove or mend it, or go without --strict to pass over it"
                )
            self.console.warn(f"{path}: cannot be read ({problem}); passed over")
