"""The bare encoder: arithmetic rate against a large matrix product, and against the `clip` package's model in batches."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks.inputs import vit_b_32
from experiments.benchmarks.measure import Row, in_turn, quotients
from fewshot.device import autocast, resolve_precision
from fewshot.embedding.batches import DTYPES
from fewshot.encoders import VisionEncoder, load_clip, load_encoder

BATCH = 32


def run(scratch: Path, quick: bool) -> list[Row]:
    """ViT-B/32's shape in the precision that `auto` resolves to."""
    path = str(vit_b_32(scratch))
    encoder = load_encoder(path)
    precision = resolve_precision("auto", encoder.device)
    images = torch.randn(BATCH, 3, 224, 224)
    batches, rounds = (4, 3) if quick else (8, 5)
    clip = load_clip(path)
    square = torch.randn(4096, 4096).to(DTYPES[precision])

    def theirs() -> None:
        with torch.inference_mode(), autocast(precision, encoder.device):
            for _ in range(batches // 2):
                clip.encode_image(images)

    def product() -> None:
        with torch.inference_mode():
            for _ in range(batches // 2):
                square @ square

    sides = {
        "ours": bare(encoder, images, batches),
        "clip": theirs,
        "product": product,
        "product a core": _products(square, batches),
    }
    seconds = in_turn(sides, rounds)
    flops = flops_per_picture(encoder)
    ours = [batches * BATCH * flops / value / 1e12 for value in seconds["ours"]]
    whole = batches // 2 * 2 * 4096**3 / 1e12
    single = batches * 2 * 2048**3 / 1e12
    best = [max(whole / a, single / b) for a, b in zip(seconds["product"], seconds["product a core"], strict=True)]
    rate = [batches * BATCH / value for value in seconds["ours"]]
    their_rate = [batches // 2 * BATCH / value for value in seconds["clip"]]
    return [
        Row(f"bare encoder, {precision}", ours, best, "TFLOP/s", f"a large {precision} matrix product", quotients(ours, best), 0.6,
            note=f"{flops / 1e9:.2f} GFLOP a picture as executed; the product: the faster of 4096 over all cores and 2048 a core"),
        Row(f"bare encoder, {precision}", rate, their_rate, "pictures/s", f"clip's model in batches of 32, {precision} autocast",
            quotients(rate, their_rate)),
    ]  # fmt: skip


def bare(encoder: VisionEncoder, images: Tensor, batches: int) -> Callable[[], None]:
    """The encoder on pictures that are ready, a batch a core: what the whole pipeline is measured against."""
    precision = resolve_precision("auto", encoder.device)
    copied = encoder.inference_copy(DTYPES[precision])

    def one(_: int) -> None:
        with torch.inference_mode(), autocast(precision, encoder.device):
            copied(images)

    return lambda: _on_each_core(one, batches)


def _products(square: Tensor, count: int) -> Callable[[], None]:
    part = square[:2048, :2048].contiguous()

    def one(_: int) -> None:
        with torch.inference_mode():
            part @ part

    return lambda: _on_each_core(one, count)


def _on_each_core(one: Callable[[int], None], count: int) -> None:
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(threads, initializer=lambda: torch.set_num_threads(1)) as pool:
        list(pool.map(one, range(count)))
    torch.set_num_threads(threads)


def flops_per_picture(encoder: VisionEncoder) -> float:
    """Of the products that the forward pass really makes. Attention is spelled out, for not every torch counts the fused one."""
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        encoder(torch.zeros(1, 3, encoder.image_size, encoder.image_size))
    return float(counter.get_total_flops())
