"""The epochs of a run: optimiser steps, then validation, a row of metrics and the state to resume from."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from episodes.counter_random import random_bits
from episodes.errors import DataError
from fewshot.console import accuracy_text, duration
from fewshot.embedding.embed import Embeddings
from fewshot.training import state as run_state
from fewshot.training.fabric import scaler_of
from fewshot.training.loader import EpisodeLoader
from fewshot.training.run import Run

SHARES_EVERY = 8  # steps between two looks at how the gradient is made up


def run_epochs(run: Run, state: run_state.RunState) -> None:
    """Train from where `state` is to the last epoch."""
    per_epoch = run.plan.steps_per_epoch
    loader = EpisodeLoader(
        run.sampler,
        run.encoder.image_size,
        augmentation=run.config.augmentation,
        views=run.config.views,
        episodes_per_step=run.plan.episodes_per_step,
        first_step=state.epoch * per_epoch,
        workers=run.workers if run.hidden_states is None else 0,  # hidden states are there; nothing is worth a process
        seed=run.augmentation_seed(),
        rank=run.fabric.global_rank,
        processes=run.fabric.world_size,
        pin_memory=run.fabric.device.type == "cuda",
        source=run.hidden_states,
    )
    with loader.naming_deaths():
        steps = iter(loader)
        while state.epoch < run.config.epochs:
            started = time.perf_counter()
            means = _epoch(run, state, steps)
            _end_epoch(run, state, means, time.perf_counter() - started)


def _epoch(run: Run, state: run_state.RunState, steps: Any) -> Tensor:
    """One epoch; the mean (5,) of total, prototypical, class loss, query accuracy and the share of the gradient (see `StepLosses`)."""
    per_epoch = run.plan.steps_per_epoch
    sums, shares = torch.zeros(4, device=run.fabric.device), torch.zeros(2, device=run.fabric.device)
    run.model.train()
    with run.console.bar(f"epoch {state.epoch + 1}/{run.config.epochs}") as advance:
        for done in range(per_epoch):
            batch = next(steps)
            for path, problem in batch.replaced.items():
                run.name_problem(state, path, problem)
            batch = batch.to(run.fabric.device)
            run.schedule.apply(run.optimiser, batch.step)
            dropout_key = random_bits(run.config.seed, "dropout", batch.step, run.fabric.global_rank) >> 1
            losses = run.wrapped(
                batch.images,
                batch.support_labels,
                batch.query_labels,
                batch.classes,
                batch.n_way,
                dropout_key,
                run.schedule.encoder_frozen(batch.step),
                done % SHARES_EVERY == 0,
            )
            if not bool(torch.isfinite(losses.total)):
                found = f"the loss is {float(losses.total.detach())} at step {batch.step}"
                raise DataError(_why_not_finite(run, found, state.epoch))
            run.wrapped_optimiser.zero_grad()
            run.fabric.backward(losses.total)
            if run.config.clip_norm:
                # A gradient that is not finite is a float16 scaler's business, or shows in the next step's loss.
                run.fabric.clip_gradients(
                    run.wrapped, run.wrapped_optimiser, max_norm=run.config.clip_norm, error_if_nonfinite=False
                )
            run.wrapped_optimiser.step()
            sums += torch.stack([value.detach() for value in losses[:4]])
            if done % SHARES_EVERY == 0 and bool(torch.isfinite(losses.share)):
                shares += torch.stack([losses.share, torch.ones_like(losses.share)])
            advance(done + 1, per_epoch)
    share = shares[:1] / shares[1:]  # NaN where no gradient reached the embeddings
    reduced = run.fabric.all_reduce(torch.cat([sums / per_epoch, share]), reduce_op="mean")
    return torch.as_tensor(reduced).cpu()


def _why_not_finite(run: Run, found: str, epochs: int) -> str:
    """What to do about numbers that are NaN or infinite. A run goes on only with the settings it began with: others need a new one."""
    config = run.config
    kept = f"the last finished epoch, {epochs}, is kept in {run.folder}" if epochs else "no epoch was finished"
    return (
        f"{found} (epoch {epochs + 1}; precision {run.precision()}, visual_lr {config.visual_lr:g}, classifier_lr "
        f"{config.classifier_lr:g}). Likely the learning rates are too high or 16-bit numbers overflow: start again into another --output "
        f"with a lower --visual_lr or --classifier_lr, or with --precision 32; {kept}"
    )


def _embed_validation(run: Run, epochs: int) -> Embeddings:
    """Validation under the weights of the epoch after `epochs`.

    Raises:
        DataError: the encoder makes nothing of any picture any more.
    """
    run.show_tuned()
    try:
        embeddings = run.validation.embed(run.encoder)
        if bool(embeddings.readable.any()):
            return embeddings
        problem = None
    except DataError as error:  # some pictures could be read when the run began
        problem = error
    step = (epochs + 1) * run.plan.steps_per_epoch - 1
    found = f"the encoder gives no finite embedding of any validation picture after step {step}"
    raise DataError(_why_not_finite(run, found, epochs)) from problem


def _end_epoch(run: Run, state: run_state.RunState, means: Tensor, seconds: float) -> None:
    """Validate, write metrics and the state, print the line."""
    state.epoch += 1
    if run.main and run.metrics is not None:
        results = run.validation.measure(_embed_validation(run, state.epoch - 1))
        if (
            not run.validation.choosing or results.mean > state.best_accuracy
        ):  # too few classes choose nothing: the last
            state.best_epoch, state.best_accuracy = state.epoch, results.mean
            state.best, state.best_head = run_state.tuned_weights(run.model), run_state.head_weights(run.model)
        state.seconds += seconds
        step = state.epoch * run.plan.steps_per_epoch
        rate = run.plan.steps_per_epoch * run.pictures_per_step() / seconds
        total, prototypical, classes, accuracy, share = means.tolist()
        rates = {part: peak * run.schedule.factor(step - 1, part) for part, peak in _peaks(run).items()}
        run.add_row(
            "epoch",
            epoch=state.epoch,
            step=step,
            loss=total,
            prototypical_loss=prototypical,
            class_loss=classes,
            prototypical_share=share,
            train_accuracy=accuracy,
            visual_lr=rates["visual"],
            classifier_lr=rates["classifier"],
            scale=float(run.model.scale.detach()),
            val=(results.mean, results.ci95),
            images_per_second=rate,
            seconds=seconds,
        )
        state.rows = run.metrics.rows
        scaler = scaler_of(run.fabric)
        state.scaler = scaler.state_dict() if scaler is not None else {}
        run_state.save_state(run.folder, state, run.model, run.optimiser)
        left = state.seconds / state.epoch * (run.config.epochs - state.epoch)
        run.console.line(
            f"epoch {state.epoch:>3}/{run.config.epochs}  proto {prototypical:.4f}  class {classes:.4f}  "
            f"lr {rates['visual']:.1e} {rates['classifier']:.1e}  val {accuracy_text(results)}  "
            f"{rate:.0f} images/s  {duration(left)} left"
        )
        if run.on_epoch is not None:
            run.on_epoch(state.rows[-1])
    run.fabric.barrier()


def _peaks(run: Run) -> dict[str, float]:
    return {"visual": run.config.visual_lr, "classifier": run.config.classifier_lr}
