"""Networks that are built without drawing initial weights."""

from __future__ import annotations

import torch
from torch import nn

from fewshot.encoders import load_encoder
from fewshot.encoders.undrawn import Undrawn


def build() -> nn.Module:
    network = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.BatchNorm1d(8), nn.MultiheadAttention(8, 2))
    network.register_parameter("start", nn.Parameter(torch.randn(8)))
    nn.init.normal_(network.start, std=0.02)
    return network


def test_nothing_is_drawn_and_constants_are_set() -> None:
    generator = torch.get_rng_state()
    with Undrawn():
        network = build()
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.equal(network[1].weight, torch.ones(8)) and torch.equal(network[2].running_var, torch.ones(8))
    drawn = build()
    assert not torch.equal(torch.get_rng_state(), generator)  # as it is without
    assert {name: (value.shape, value.dtype) for name, value in network.state_dict().items()} == {
        name: (value.shape, value.dtype) for name, value in drawn.state_dict().items()
    }


def test_an_encoder_holds_nothing_but_what_its_file_says() -> None:
    """What memory held before is in no tensor: two loads, with other numbers lying about in between, are the same to the bit."""
    first = load_encoder("tiny").state_dict()
    for value in range(3):
        for size in {tensor.numel() for tensor in first.values()}:
            torch.full((size,), float(value))  # freed at once, for the next tensor of this size
    second = load_encoder("tiny").state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
