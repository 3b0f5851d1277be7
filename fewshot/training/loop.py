"""The training run: episodes in, a checkpoint out. One loop for one process or many (lightning-fabric)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from episodes import PairedDifference
from fewshot.config import TrainConfig
from fewshot.console import Console, accuracy_text
from fewshot.distributed import is_of_a_lost_process, leave_together
from fewshot.embedding.embed import Embeddings
from fewshot.training import state as run_state
from fewshot.training.epochs import run_epochs
from fewshot.training.fabric import scaler_of
from fewshot.training.finish import finish
from fewshot.training.metrics import Metrics, Row
from fewshot.training.run import Run
from fewshot.training.selection import Selection, set_weights


@dataclass(frozen=True)
class TrainResult:
    """The result of a finished run. Accuracies lie in [0, 1] and are those of validation classes that chose nothing.

    Attributes:
        path: its folder.
        untouched_accuracy: of the encoder before tuning.
        accuracy: of the encoder that was kept.
        ci95: half the width of its 95 % interval.
        pictures: how many distinct pictures the two are of.
        alpha: the share of the tuned weights in the kept ones; 0 keeps the untouched encoder.
        best_epoch: the epoch whose weights were mixed.
        difference: the best mix less untouched, on the same episodes; `ci95_new_classes` is what it had to exceed.
        unreadable: path -> problem, of the pictures that were passed over.
    """

    path: Path
    untouched_accuracy: float
    accuracy: float
    ci95: float
    pictures: int
    alpha: float
    best_epoch: int
    difference: PairedDifference
    unreadable: dict[str, str]


def train(
    config: TrainConfig, console: Console | None = None, *, on_epoch: Callable[[Row], None] | None = None
) -> TrainResult:
    """Fine-tune a backbone on class folders; see `TrainConfig` for everything that can be set.

    Args:
        config: of the run.
        console: tells how it goes; by default what the config asks for.
        on_epoch: told each epoch's row of metrics.csv, once the state to resume from is written; in the first process only.

    Raises:
        UsageError: settings that do not fit each other, the data or the machine.
        DataError: folders or files that cannot be used; an output that is finished already; a process of several that ended.
    """
    with leave_together():
        run = Run(config, console or config.console)
        run.on_epoch = on_epoch
        try:
            return _go(run)
        finally:
            if run.metrics is not None:
                run.metrics.close()


def _go(run: Run) -> TrainResult:
    state = run_state.RunState()
    try:
        run.open_hidden_states()
        if run.config.resume:
            state = run_state.load_state(run.folder, run.model, run.optimiser)
            if state.scaler:
                scaler_of(run.fabric).load_state_dict(state.scaler)
        run.metrics = Metrics(run.folder, state.rows) if run.main else None
        untouched = _measure_untouched(run, state)
        if state.epoch:
            run.console.line(f"resuming {run.folder} after epoch {state.epoch} of {run.config.epochs}")
        if state.epoch < run.config.epochs:
            run_epochs(run, state)
        selection = finish(run, state, untouched)
    except BaseException as error:
        stopped = run.main and not isinstance(error, Exception)  # by SIGINT or SIGTERM, which is no failure
        lost = run.fabric.global_rank < 2 and is_of_a_lost_process(error)  # the first may be the one that is gone
        if stopped or lost:
            run.console.warn(
                f"stopped after epoch {state.epoch} of {run.config.epochs}; the same command with --output {run.folder} "
                "--resume continues"
            )
        raise
    return _result(run, state, selection)


def _measure_untouched(run: Run, state: run_state.RunState) -> Embeddings | None:
    """Validation embeddings before tuning, and their row in metrics.csv; rank 0 only."""
    if not run.main or run.metrics is None:
        return None
    tuned = run_state.tuned_weights(run.model)
    set_weights(run.encoder, run.original)
    with run.console.bar("untouched encoder on validation"):
        embeddings = run.validation.embed(run.encoder, untouched=True)
    set_weights(run.encoder, tuned)
    for row, problem in embeddings.problems.items():
        run.name_problem(state, str(run.validation.table.items[row]), problem)
    results = run.validation.measure(embeddings)
    if not run.metrics.rows:
        run.add_row("untouched", epoch=0, step=0, val=(results.mean, results.ci95))
        state.rows = run.metrics.rows
    v = run.validation
    run.console.line(
        f"untouched {run.config.backbone}: validation {accuracy_text(results)} "
        f"({v.ways}-way {v.shots}-shot, {run.config.val_episodes} episodes)"
    )
    return embeddings


def _result(run: Run, state: run_state.RunState, selection: Selection | None) -> TrainResult:
    selection = run.fabric.broadcast(selection)
    assert selection is not None
    return TrainResult(
        run.folder,
        selection.untouched.mean,
        selection.kept.mean,
        selection.kept.ci95,
        len(set(selection.kept.row.tolist())),
        selection.alpha,
        run.fabric.broadcast(state.best_epoch),
        selection.difference,
        state.named,
    )
