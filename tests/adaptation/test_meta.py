"""Gradient-based meta-learning against plain loops of torch.func, and that what training measures is what the checkpoint does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call, grad
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewshot.adaptation.inner_loop import InnerLoop
from fewshot.adaptation.meta import MetaLearner
from fewshot.encoders import load_encoder
from fewshot.images.transform import normalise
from fewshot.training.model import EpisodicModel

pytest.importorskip("learn2learn.data.task_dataset", reason="learn2learn is not installed (it needs a C compiler)")

WAYS, SHOTS, QUERIES, TASKS, RATE, STEPS = 3, 2, 2, 2, 0.05, 3


@pytest.fixture
def model_of(vit_file: Path) -> Callable[..., EpisodicModel]:
    def make(name: str, **settings: Any) -> EpisodicModel:
        encoder = load_encoder(str(vit_file))
        encoder.unfreeze_last(2)
        method = MetaLearner(name, encoder, InnerLoop(**{"rate": RATE, "steps": STEPS, **settings}))
        return EpisodicModel(encoder, 5, class_weight=0.0, dropout=0.0, method=method)

    return make


def step() -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, support labels and query labels of a step of two episodes; the second has a support picture fewer (padding)."""
    generator = torch.Generator().manual_seed(0)
    each = WAYS * (SHOTS + QUERIES)
    images = torch.randint(0, 256, (TASKS * each, 3, 32, 32), dtype=torch.uint8, generator=generator)
    support = torch.arange(WAYS).repeat_interleave(SHOTS).repeat(TASKS, 1)
    support[1, -1] = -1
    query = torch.arange(WAYS).repeat_interleave(QUERIES).repeat(TASKS, 1)
    return images, support, query


def gradients(model: EpisodicModel) -> tuple[float, dict[str, Tensor]]:
    """The outer loss and its gradients by the model."""
    images, support, query = step()
    losses = model(images, support, query, torch.zeros(len(images), dtype=torch.int64), WAYS, 0)
    losses.total.backward()
    return float(losses.total.detach()), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def plain_loss(model: EpisodicModel, values: dict[str, Tensor], rate: float, steps: int, first_order: bool) -> Tensor:
    """The outer loss as the papers write it, a function of all that is trained."""
    images, support, query = step()
    encoder, method = model.encoder, model.method
    assert method is not None
    pixels = normalise(images, encoder).view(TASKS, -1, 3, 32, 32)
    weights = {n.removeprefix("encoder."): v for n, v in values.items() if n.startswith("encoder.")}
    behind = {id(p) for p in (*encoder.blocks[-1].parameters(), *encoder.head_parameters())}
    tuned = {n for n, p in encoder.named_parameters() if id(p) in behind} if method.name != "anil" else set()

    def embed(fast: dict[str, Tensor], pictures: Tensor) -> Tensor:
        return functional_call(encoder, {**weights, **{n: v for n, v in fast.items() if n in tuned}}, (pictures,))

    losses = []
    for task in range(TASKS):
        labels, shots = support[task], support.shape[1]
        given, labels = pixels[task, :shots][labels >= 0], labels[labels >= 0]
        if method.name == "protomaml":
            before = embed({}, given)
            means = torch.stack([before[labels == label].mean(0) for label in range(WAYS)])
            head = means / means.norm(dim=1, keepdim=True)
        else:
            head = torch.zeros(WAYS, encoder.embed_dim)
        fast = {n: weights[n] for n in tuned} | {"head": head}

        def inner(fast: dict[str, Tensor], pictures: Tensor, truth: Tensor) -> Tensor:
            scores = values["log_scale"].exp() * embed(fast, pictures) @ fast["head"].T
            return F.cross_entropy(scores, truth)

        for _ in range(steps):
            slopes = grad(inner)(fast, given, labels)
            if first_order:
                slopes = {n: v.detach() for n, v in slopes.items()}
            fast = {n: v - rate * speed(values, model, n) * slopes[n] for n, v in fast.items()}
        losses.append(inner(fast, pixels[task, shots:], query[task]))
    return torch.stack(losses).mean()


def speed(values: dict[str, Tensor], model: EpisodicModel, name: str) -> Tensor | float:
    """Meta-SGD's learned factor on the rate of one tensor."""
    assert model.method is not None
    if model.method.name != "meta-sgd":
        return 1.0
    stepped = [n.removeprefix("encoder.") for n in model.method.tail(model.encoder).parameters]
    return values[f"method.rates.{[*stepped, 'head'].index(name)}"]


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("name", ["anil", "maml", "meta-sgd", "protomaml"])
def test_gradients_are_those_of_a_plain_loop(
    name: str, first_order: bool, model_of: Callable[..., EpisodicModel]
) -> None:
    model = model_of(name, first_order=first_order)
    assert model.method is not None
    for rates in model.method.rates:
        rates.data.uniform_(-0.5, 1.5, generator=torch.Generator().manual_seed(1))
    loss, found = gradients(model)
    values = {n: p.detach().clone() for n, p in model.named_parameters() if n in found}
    with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        expected_loss = plain_loss(model, values, RATE, STEPS, first_order)
        expected = grad(lambda v: plain_loss(model, v, RATE, STEPS, first_order))(values)
        other = grad(lambda v: plain_loss(model, v, RATE, STEPS, not first_order))(values)
    assert loss == pytest.approx(float(expected_loss), abs=1e-5)
    assert {"log_scale"} < set(found) and any(".resblocks.0." in n for n in found)
    for key, value in found.items():
        difference = float((value - expected[key]).norm())
        assert difference <= 1e-4 * float(expected[key].norm()) + 1e-6, key
    key = "encoder.visual.transformer.resblocks.0.mlp.c_fc.weight"
    assert float((found[key] - other[key]).norm()) > 1e-2 * float(found[key].norm())  # the order does make a difference


@pytest.mark.parametrize("name", ["anil", "maml", "meta-sgd", "protomaml"])
def test_in_bfloat16_loss_and_gradients_are_close(name: str, model_of: Callable[..., EpisodicModel]) -> None:
    """Under autocast, as training runs; the sums of the inner loop and the losses stay float32."""
    model = model_of(name)
    loss, exact = gradients(model)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        rounded_loss, rounded = gradients(model)
    assert rounded_loss == pytest.approx(loss, rel=0.02) and rounded_loss != loss and rounded.keys() == exact.keys()
    for key, value in rounded.items():
        assert value.dtype == torch.float32 and bool(value.isfinite().all()), key
    key = "encoder.visual.transformer.resblocks.0.mlp.c_fc.weight"
    assert F.cosine_similarity(rounded[key].flatten(), exact[key].flatten(), dim=0) > 0.98
    assert not torch.equal(rounded[key], exact[key])
