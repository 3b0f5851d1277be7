"""The end of a run: choose the weights, compute what predicting needs to know of them, write the checkpoint."""

from __future__ import annotations

from typing import Any

from fewshot import checkpoint, run_files
from fewshot.classifiers.base import Statistics
from fewshot.classifiers.calibrate import measure_confidence
from fewshot.classifiers.statistics import select_rows, statistics_of, statistics_of_embeddings
from fewshot.console import accuracy_text
from fewshot.embedding.cache import EmbeddingCache
from fewshot.embedding.embed import Embeddings
from fewshot.training import state as run_state
from fewshot.training.run import Run
from fewshot.training.selection import Selection, select, set_weights, verdict


def finish(run: Run, state: run_state.RunState, untouched: Embeddings | None) -> Selection | None:
    """Select, compute the training classes' statistics, write the checkpoint; rank 0 only."""
    selection = None
    if run.main and untouched is not None:
        run_state.load_head(run.model, state.best_head)
        selection = _select(run, state, untouched)
        kept, original = _statistics(run, selection.alpha > 0)
        described = run.describe(selection, state.best_epoch)
        known = measure_confidence(selection.embeddings, run.validation.table, kept, run.config.seed)
        described["calibration"] = {name: confidence.to_json() for name, confidence in known.items()}
        if known:
            run.console.line(f"confidence of prototype: {known['prototype'].describe()}")
        checkpoint.save_checkpoint(
            run.folder,
            described,
            run.encoder,
            run.model.classifier,
            run.model.log_scale,
            run.original,
            kept,
            original,
            run.model.method,
        )
        (run.folder / run_files.RESUME).unlink(missing_ok=True)
        run.hidden_state_cache.clean()
    run.fabric.barrier()
    return selection


def _select(run: Run, state: run_state.RunState, untouched: Embeddings) -> Selection:
    before = [row for row in state.rows if row["kind"] in ("untouched", "epoch")]
    if run.metrics is not None:
        run.metrics.rows = before  # a run killed while selecting selects anew
    with run.console.bar("choosing between old and new weights"):
        selection = select(run.encoder, run.original, state.best, run.validation, untouched, run.config.mix)
    for alpha, results in selection.swept.items():
        run.add_row("wise-ft", epoch=state.best_epoch, alpha=alpha, val=(results.mean, results.ci95))
        run.console.line(f"  mix {alpha:.2f} of the tuned weights: validation {accuracy_text(results)}")
    run.add_row(
        "decision",
        epoch=state.best_epoch,
        alpha=selection.alpha,
        difference=selection.difference.mean,
        difference_ci95=selection.half_width,
    )
    asked = run.config.mix is not None
    run.console.line(verdict(selection, state.best_epoch, run.split.about, run.validation.deciding, asked=asked))
    return selection


def _statistics(run: Run, tuned: bool) -> tuple[Statistics, Statistics]:
    """Mean and covariance of the training classes under the kept and the untouched weights."""
    table = run.split.train
    part = table.select_rows(select_rows(table, run.config.seed))
    hidden = run.hidden_state_cache.of_plain(
        part
    )  # what the frozen blocks make of them is the same before and after tuning

    def measure(what: str, cache: EmbeddingCache | None) -> Statistics:
        precision = run.config.precision
        with run.console.bar(f"statistics of the training classes, {what} encoder") as advance:
            if hidden is not None:
                return statistics_of_embeddings(hidden.embed(run.encoder, precision), part.labels)
            kind: dict[str, Any] = {"precision": precision, "workers": run.workers, "cache": cache}
            return statistics_of(run.encoder, part.items, part.labels, progress=advance, **kind)

    if not tuned:
        untouched = measure("untouched", run.cache)
        return untouched, untouched
    kept = measure("kept", None)
    now = dict(run.encoder.named_parameters())
    weights = {name: now[name].detach().clone() for name in run.original}
    set_weights(run.encoder, run.original)
    original = measure("untouched", run.cache)
    set_weights(run.encoder, weights)
    return kept, original
