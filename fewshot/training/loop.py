"""The training run: episodes in, a checkpoint out. One loop for one process or many (lightning-fabric)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fewshot
from episodes import EpisodeSampler, PairedDifference
from episodes.errors import DataError, UsageError
from episodes.files import display_name
from episodes.keyed import keyed_bits
from fewshot.cache import EmbeddingCache
from fewshot.calibration import describe as describe_calibration
from fewshot.classifiers.base import Statistics
from fewshot.console import Console, duration, percent
from fewshot.device import resolve_precision
from fewshot.embeddings import Embeddings
from fewshot.encoders import load_encoder
from fewshot.encoders.base import VisionEncoder
from fewshot.loader import EpisodeLoader
from fewshot.statistics import select_rows, statistics_of
from fewshot.training import checkpoint
from fewshot.training import state as run_state
from fewshot.training.calibrating import calibrate
from fewshot.training.config import EpisodePlan, TrainConfig, plan_episodes
from fewshot.training.data import default_workers, read_split
from fewshot.training.metrics import Metrics
from fewshot.training.model import EpisodicModel
from fewshot.training.optimiser import Schedule, build_optimiser
from fewshot.training.processes import make_fabric, scaler_of
from fewshot.training.run_folder import check_same_data, output_folder
from fewshot.training.selection import Selection, select, set_weights
from fewshot.training.trunk import Trunk, TrunkKey
from fewshot.training.trunks import Trunks
from fewshot.training.validation import Split, Validation

TRUNK_BLOCKS = (
    "trunk_blocks"  # in config.json: behind how many blocks training's hidden states come; null without a cache
)


@dataclass(frozen=True)
class TrainResult:
    """How a run ended: where it is, validation accuracy of the untouched and the kept encoder, and what decided.

    `unreadable` says which pictures were passed over, and why.
    """

    path: Path
    untouched_accuracy: float
    accuracy: float
    ci95: float
    alpha: float
    best_epoch: int
    difference: PairedDifference
    unreadable: dict[str, str]


def train(config: TrainConfig, console: Console | None = None) -> TrainResult:
    """Fine-tune a backbone on class folders; see `TrainConfig` for everything that can be set.

    Raises:
        UsageError: settings that do not fit each other, the data or the machine.
        DataError: folders or files that cannot be used; an output that is finished already.
    """
    return _Run(config, console or Console(config.quiet or config.json)).go()


class _Run:
    """One run: what is set up once, and the steps that use it."""

    def __init__(self, config: TrainConfig, console: Console) -> None:
        self.config, self.console = config, console
        self.fabric = make_fabric(config)
        self.main = self.fabric.global_rank == 0
        if not self.main:
            self.console = Console(quiet=True)
        self.workers = default_workers(config.workers)
        self.split: Split = read_split(config, self.console)
        self.encoder: VisionEncoder = load_encoder(config.backbone, download_root=config.download_root)
        self.encoder.unfreeze_last(config.unfreeze_blocks)
        self.plan: EpisodePlan = self._plan()
        self.model = EpisodicModel(
            self.encoder,
            len(self.split.train.class_names),
            dropout=config.dropout,
            prototypical_weight=config.prototypical_weight,
            class_weight=config.class_weight,
            label_smoothing=config.label_smoothing,
            seed=keyed_bits(config.seed, "classifier") >> 1,
        )
        self.original = run_state.tuned_weights(self.model)
        self.optimiser = build_optimiser(self.model, config)
        steps = self.plan.steps_per_epoch * config.epochs
        self.schedule = Schedule(steps, config.warmup, config.head_warmup if self.original else 0.0)
        self.cache = None if config.no_cache else EmbeddingCache()
        self.validation = Validation(self.split.validation, config, self.workers, self.cache)
        self.sampler = self._sampler()
        # Everything that can be wrong with settings and data has been looked at: only now is anything written.
        self.folder = self._claim_folder()
        self.wrapped, self.wrapped_optimiser = self.fabric.setup(self.model, self.optimiser)
        self.trunks = Trunks(config, self.encoder, self.workers, self.folder, self.console)
        self.trunk = self._open_trunks()

    def _plan(self) -> EpisodePlan:
        table, config = self.split.train, self.config
        per_class = (config.shot_range if isinstance(config.shot_range, int) else config.shot_range[1]) + config.queries
        eligible = int((table.counts >= per_class).sum())
        plan = plan_episodes(config, len(table), eligible, self.fabric.world_size)
        self.console.line(
            f"{plan.episodes_per_step} episode(s) a step: {plan.ways}-way {config.shots}-shot, {config.queries} queries a class; "
            f"{plan.steps_per_epoch} steps an epoch"
        )
        if eligible < len(table.class_names):
            self.console.line(
                f"  {eligible} of {len(table.class_names)} classes have the {per_class} pictures that an episode needs; the others "
                "take no part"
            )
        return plan

    def _claim_folder(self) -> Path:
        """The run's folder, with its config.json written; every process gets the same."""
        name: Any = None
        if self.main:
            try:
                name = str(output_folder(self.config))
            except (DataError, UsageError) as error:
                name = error
        name = self.fabric.broadcast(name)
        if isinstance(name, Exception):
            raise name
        folder = Path(name)
        if self.main:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / checkpoint.RESUME).exists():
                check_same_data(folder, self._describe(None))
            else:
                checkpoint.write_config(folder, self._describe(None))
        return folder

    def _open_trunks(self) -> Trunk | None:
        """The validation's trunk on rank 0, and that of training where it is to be used, in every process."""
        table, seed = self.split.train, self._augmentation_seed()
        chosen: tuple[int, TrunkKey] | None = None
        if self.main:
            self.validation.trunk = self.trunks.of_validation(self.validation.table)
            described = checkpoint.read_config(self.folder)
            if TRUNK_BLOCKS not in described:  # a resumed run goes on as it began, whatever the disk says by now
                passes = self.config.epochs * self.plan.steps_per_epoch * self._pictures_per_step()
                described[TRUNK_BLOCKS] = self.trunks.decide(table, passes, seed)
                checkpoint.write_config(self.folder, described)
            if described[TRUNK_BLOCKS] is not None:
                chosen = described[TRUNK_BLOCKS], self.trunks.training_key(table, seed)
        chosen = self.fabric.broadcast(chosen)
        if chosen is None:
            return None
        blocks, key = chosen
        self.model.cached_blocks = blocks
        first = self.trunks.of_training(table, blocks, key, seed) if self.fabric.local_rank == 0 else None
        self.fabric.barrier()
        return self.trunks.of_training(table, blocks, key, seed) if first is None else first

    def _augmentation_seed(self) -> int:
        return keyed_bits(self.config.seed, "augmentation") >> 1

    def _describe(self, selection: Selection | None, best_epoch: int = 0) -> dict[str, Any]:
        """What config.json says."""
        table = self.split.train
        chosen = None
        if selection is not None:
            chosen = {
                "epoch": best_epoch,
                "alpha": selection.alpha,
                "difference": selection.difference.mean,
                "difference_ci95": selection.difference.ci95,
            }
        return {
            "fewshot": fewshot.__version__,
            "torch": torch.__version__,
            "backbone": self.config.backbone,
            "embed_dim": self.encoder.embed_dim,
            "image_size": self.encoder.image_size,
            "precision": self._precision(),
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

    def _precision(self) -> str:
        return resolve_precision(self.config.precision, self.fabric.device)

    def go(self) -> TrainResult:
        state = run_state.RunState()
        if self.config.resume:
            state = run_state.load_state(self.folder, self.model, self.optimiser)
            if state.scaler:
                scaler_of(self.fabric).load_state_dict(state.scaler)
        self.metrics = Metrics(self.folder, state.rows) if self.main else None
        untouched = self._measure_untouched(state)
        if state.epoch:
            self.console.line(f"resuming {self.folder} after epoch {state.epoch} of {self.config.epochs}")
        try:
            if state.epoch < self.config.epochs:
                self._epochs(state)
            selection = self._finish(state, untouched)
        except BaseException as error:
            if not isinstance(error, Exception) and self.main:  # SIGINT or SIGTERM, not a failure
                self.console.warn(
                    f"stopped after epoch {state.epoch} of {self.config.epochs}; the same command with --output {self.folder} "
                    "--resume continues"
                )
            raise
        return self._result(state, selection)

    def _measure_untouched(self, state: run_state.RunState) -> Embeddings | None:
        """Validation embeddings before tuning, and their row in metrics.csv; rank 0 only."""
        if not self.main or self.metrics is None:
            return None
        tuned = run_state.tuned_weights(self.model)
        set_weights(self.encoder, self.original)
        with self.console.bar("untouched encoder on validation"):
            embeddings = self.validation.embed(self.encoder, cached=True)
        set_weights(self.encoder, tuned)
        for row, problem in embeddings.problems.items():
            self._name_problem(state, str(self.validation.table.items[row]), problem)
        results = self.validation.measure(embeddings)
        if not self.metrics.rows:
            self._add("untouched", epoch=0, step=0, val=(results.mean, results.ci95))
            state.rows = self.metrics.rows
        v = self.validation
        self.console.line(
            f"untouched {self.config.backbone}: validation {percent(results.mean, results.ci95)} "
            f"({v.ways}-way {v.shots}-shot, {self.config.val_episodes} episodes)"
        )
        return embeddings

    def _add(self, kind: str, val: tuple[float, float] | None = None, **values: Any) -> None:
        if self.metrics is not None:
            measured = (
                {"val_accuracy": val[0], "val_ci95": val[1], "val_episodes": self.config.val_episodes} if val else {}
            )
            self.metrics.add(kind, **values, **measured)

    def _name_problem(self, state: run_state.RunState, path: str, problem: str) -> None:
        path = display_name(path)
        if path not in state.named:
            state.named[path] = problem
            if self.config.strict:
                raise DataError(
                    f"{path}: cannot be read ({problem}). Remove or mend it, or go without --strict to pass over it"
                )
            self.console.warn(f"{path}: cannot be read ({problem}); passed over")

    def _sampler(self) -> EpisodeSampler:
        return EpisodeSampler(
            self.split.train,
            ways=self.plan.ways,
            shots=self.config.shot_range,
            queries=self.config.queries,
            seed=keyed_bits(self.config.seed, "training") >> 1,
            episodes=self.plan.episodes_per_step * self.schedule.steps,
        )

    def _epochs(self, state: run_state.RunState) -> None:
        """Train from where `state` is to the last epoch."""
        per_epoch = self.plan.steps_per_epoch
        loader = EpisodeLoader(
            self.sampler,
            self.encoder.image_size,
            augmentation=self.config.augmentation,
            views=self.config.views,
            episodes_per_step=self.plan.episodes_per_step,
            first_step=state.epoch * per_epoch,
            workers=self.workers if self.trunk is None else 0,  # hidden states are there; nothing is worth a process
            seed=self._augmentation_seed(),
            rank=self.fabric.global_rank,
            processes=self.fabric.world_size,
            pin_memory=self.fabric.device.type == "cuda",
            source=self.trunk,
        )
        steps = iter(loader)
        while state.epoch < self.config.epochs:
            started = time.perf_counter()
            means = self._epoch(state, steps)
            self._end_epoch(state, means, time.perf_counter() - started)

    def _epoch(self, state: run_state.RunState, steps: Any) -> Tensor:
        """One epoch; the mean (4,) of total, prototypical, class loss and query accuracy."""
        per_epoch = self.plan.steps_per_epoch
        sums = torch.zeros(4, device=self.fabric.device)
        self.model.train()
        with self.console.bar(f"epoch {state.epoch + 1}/{self.config.epochs}") as advance:
            for done in range(per_epoch):
                batch = next(steps)
                for path, problem in batch.replaced.items():
                    self._name_problem(state, path, problem)
                batch = batch.to(self.fabric.device)
                self.schedule.apply(self.optimiser, batch.step)
                dropout_key = keyed_bits(self.config.seed, "dropout", batch.step, self.fabric.global_rank) >> 1
                losses = self.wrapped(
                    batch.images,
                    batch.support_labels,
                    batch.query_labels,
                    batch.classes,
                    batch.n_way,
                    dropout_key,
                    self.schedule.encoder_frozen(batch.step),
                )
                if not bool(torch.isfinite(losses.total)):
                    raise DataError(
                        f"the loss is {float(losses.total)} at step {batch.step}: lower --visual_lr or --classifier_lr, or use "
                        f"--precision 32. Continue from the last epoch with --output {self.folder} --resume"
                    )
                self.wrapped_optimiser.zero_grad()
                self.fabric.backward(losses.total)
                if self.config.clip_norm:
                    # A gradient that is not finite is a float16 scaler's business, or shows in the next step's loss.
                    self.fabric.clip_gradients(
                        self.wrapped, self.wrapped_optimiser, max_norm=self.config.clip_norm, error_if_nonfinite=False
                    )
                self.wrapped_optimiser.step()
                sums += torch.stack([value.detach() for value in losses])
                advance(done + 1, per_epoch)
        reduced = self.fabric.all_reduce(sums / per_epoch, reduce_op="mean")
        return torch.as_tensor(reduced).cpu()

    def _end_epoch(self, state: run_state.RunState, means: Tensor, seconds: float) -> None:
        """Validate, write metrics and the state, print the line."""
        state.epoch += 1
        if self.main and self.metrics is not None:
            results = self.validation.measure(self.validation.embed(self.encoder))
            if results.mean > state.best_accuracy:
                state.best_epoch, state.best_accuracy = state.epoch, results.mean
                state.best, state.best_head = run_state.tuned_weights(self.model), run_state.head_weights(self.model)
            state.seconds += seconds
            step = state.epoch * self.plan.steps_per_epoch
            rate = self.plan.steps_per_epoch * self._pictures_per_step() / seconds
            total, prototypical, classes, accuracy = means.tolist()
            rates = {part: peak * self.schedule.factor(step - 1, part) for part, peak in self._peaks().items()}
            self._add(
                "epoch",
                epoch=state.epoch,
                step=step,
                loss=total,
                prototypical_loss=prototypical,
                class_loss=classes,
                train_accuracy=accuracy,
                visual_lr=rates["visual"],
                classifier_lr=rates["classifier"],
                scale=float(self.model.scale.detach()),
                val=(results.mean, results.ci95),
                images_per_second=rate,
                seconds=seconds,
            )
            state.rows = self.metrics.rows
            scaler = scaler_of(self.fabric)
            state.scaler = scaler.state_dict() if scaler is not None else {}
            run_state.save_state(self.folder, state, self.model, self.optimiser)
            left = state.seconds / state.epoch * (self.config.epochs - state.epoch)
            self.console.line(
                f"epoch {state.epoch:>3}/{self.config.epochs}  proto {prototypical:.4f}  class {classes:.4f}  "
                f"lr {rates['visual']:.1e} {rates['classifier']:.1e}  val {percent(results.mean, results.ci95)}  "
                f"{rate:.0f} images/s  {duration(left)} left"
            )
        self.fabric.barrier()

    def _peaks(self) -> dict[str, float]:
        return {"visual": self.config.visual_lr, "classifier": self.config.classifier_lr}

    def _pictures_per_step(self) -> int:
        ways = self.plan.ways if isinstance(self.plan.ways, int) else sum(self.plan.ways) / 2
        shots = self.config.shot_range
        shots_mean = shots if isinstance(shots, int) else sum(shots) / 2
        return int(self.plan.episodes_per_step * ways * (shots_mean + self.config.queries))

    def _finish(self, state: run_state.RunState, untouched: Embeddings | None) -> Selection | None:
        """Select, compute the training classes' statistics, write the checkpoint; rank 0 only."""
        selection = None
        if self.main and untouched is not None:
            run_state.load_head(self.model, state.best_head)
            selection = self._select(state, untouched)
            kept, original = self._statistics(selection.alpha > 0)
            described = self._describe(selection, state.best_epoch)
            described["calibration"] = calibrate(selection.embeddings, self.validation.table, kept, self.config.seed)
            if described["calibration"]:
                told = describe_calibration(described["calibration"]["prototype"])
                self.console.line(f"confidence of prototype on validation episodes: {told}")
            checkpoint.write_config(self.folder, described)
            checkpoint.save_checkpoint(
                self.folder, self.encoder, self.model.classifier, self.model.log_scale, self.original, kept, original
            )
            (self.folder / checkpoint.RESUME).unlink(missing_ok=True)
            self.trunks.clean()
        self.fabric.barrier()
        return selection

    def _select(self, state: run_state.RunState, untouched: Embeddings) -> Selection:
        before = [row for row in state.rows if row["kind"] in ("untouched", "epoch")]
        if self.metrics is not None:
            self.metrics.rows = before  # a run killed while selecting selects anew
        with self.console.bar("choosing between old and new weights"):
            selection = select(self.encoder, self.original, state.best, self.validation, untouched)
        for alpha, results in selection.swept.items():
            self._add("wise-ft", epoch=state.best_epoch, alpha=alpha, val=(results.mean, results.ci95))
            self.console.line(
                f"  mix {alpha:.2f} of the tuned weights: validation {percent(results.mean, results.ci95)}"
            )
        d = selection.difference
        self._add("decision", epoch=state.best_epoch, alpha=selection.alpha, difference=d.mean, difference_ci95=d.ci95)
        verdict = f"kept the tuned encoder of epoch {state.best_epoch} (mix {selection.alpha:.2f})"
        if selection.alpha == 0:
            verdict = "kept the untouched encoder: tuning is not surely better on validation"
        self.console.line(
            f"{verdict}; paired difference on fresh episodes {100 * d.mean:+.2f} ± {100 * d.ci95:.2f} points"
        )
        return selection

    def _statistics(self, tuned: bool) -> tuple[Statistics, Statistics]:
        """Mean and covariance of the training classes under the kept and the untouched weights."""
        table = self.split.train
        rows = select_rows(table, self.config.seed)
        items, labels = [table.items[row] for row in rows], table.labels[rows]

        def measure(what: str, cache: EmbeddingCache | None) -> Statistics:
            with self.console.bar(f"statistics of the training classes, {what} encoder") as advance:
                return statistics_of(
                    self.encoder,
                    items,
                    labels,
                    precision=self.config.precision,
                    workers=self.workers,
                    cache=cache,
                    progress=advance,
                )

        if not tuned:
            untouched = measure("untouched", self.cache)
            return untouched, untouched
        kept = measure("kept", None)
        weights = run_state.tuned_weights(self.model)
        set_weights(self.encoder, self.original)
        original = measure("untouched", self.cache)
        set_weights(self.encoder, weights)
        return kept, original

    def _result(self, state: run_state.RunState, selection: Selection | None) -> TrainResult:
        selection = self.fabric.broadcast(selection)
        assert selection is not None
        untouched = self.fabric.broadcast(state.rows[0]["val_accuracy"] if state.rows else None)
        kept = selection.swept[selection.alpha] if selection.alpha else None
        mean, ci95 = (kept.mean, kept.ci95) if kept else (untouched, float("nan"))
        return TrainResult(
            self.folder,
            untouched,
            mean,
            ci95,
            selection.alpha,
            self.fabric.broadcast(state.best_epoch),
            selection.difference,
            state.named,
        )
