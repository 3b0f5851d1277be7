"""On a GPU, where there is one: the encoder's share of the card's rate, the whole `predict`, training with and without the trunk cache."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch

from episodes import read_class_folders
from experiments.benchmarks.encoder import flops_per_picture
from experiments.benchmarks.inputs import class_folders, tasks, vit_b_32
from experiments.benchmarks.measure import Row, quotients
from experiments.benchmarks.training import Runner
from fewshot.classifiers import build_classifier
from fewshot.device import autocast, resolve_precision
from fewshot.embedding.batches import DTYPES, default_batch_size
from fewshot.embedding.embed import embed_images
from fewshot.encoders import VisionEncoder, load_encoder
from fewshot.images.jpeg_gpu import gpu_decoder
from fewshot.predict import predict


def run(scratch: Path, quick: bool) -> list[Row]:
    """ViT-B/32's shape on the card; nothing without one."""
    if not torch.cuda.is_available():
        return []
    return measure(scratch, quick, torch.device("cuda"), vit_b_32(scratch), 8192)


def measure(scratch: Path, quick: bool, device: torch.device, weights: Path, width: int) -> list[Row]:
    """The rows of one device; `width` is that of the matrix product it is held against."""
    rounds = 3 if quick else 7
    encoder = load_encoder(str(weights), device=device)
    precision = resolve_precision("auto", device)
    size, dtype = default_batch_size(encoder), DTYPES[precision]
    copied = encoder.inference_copy(dtype)
    images = torch.randn(size, 3, encoder.image_size, encoder.image_size, device=device)
    square = torch.randn(width, width, device=device).to(dtype)

    def encode() -> None:
        with torch.inference_mode(), autocast(precision, device):
            copied(images)

    flops = flops_per_picture(load_encoder(str(weights)))
    bare = [size / value for value in _seconds(encode, rounds, device)]
    peak = [2 * width**3 / value / 1e12 for value in _seconds(lambda: square @ square, rounds, device)]
    rate = [value * flops / 1e12 for value in bare]
    root = tasks(scratch / "gpu-tasks", 4 if quick else 40)
    found: list[float] = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        prediction = predict(root, encoder, build_classifier("prototype"), find_truth=False)
        found.append(prediction.embeddings.computed / (time.perf_counter() - started))
    kind = device.type
    rows = [
        Row(f"encoder on {kind}, {precision}", rate, peak, "TFLOP/s", f"matrix product of {width}", quotients(rate, peak),
            note=f"{bare[0]:,.0f} pictures a second in batches of {size}"),
        Row(f"predict on {kind}", found[1:], bare, "pictures/s", "bare encoder", quotients(found[1:], bare),
            note="what is missing to 1 is reading and decoding JPEGs"),
    ]  # fmt: skip
    rows += decoding(encoder, sorted(root.rglob("*.jpg")), rounds)
    table = read_class_folders(class_folders(scratch / "training", 12, 6))
    for blocks in (2, 6) if len(encoder.blocks) > 6 else (1,):
        runner = Runner(scratch, table, blocks, weights, device)
        seconds = runner.rounds(4 if quick else 40, rounds)
        rows.append(
            Row(f"training step on {kind}, --unfreeze_blocks {blocks}", seconds["cache"], seconds["none"], "s",
                "without the trunk cache", quotients(seconds["none"], seconds["cache"]))
        )  # fmt: skip
    return rows


def decoding(encoder: VisionEncoder, paths: list[Path], rounds: int) -> list[Row]:
    """Pictures a second with JPEGs decoded by the card and by the processor; nothing where the card's decoder is not used."""
    card = gpu_decoder(encoder.device, encoder.image_size)
    if card is None:
        return []
    rates: dict[str, list[float]] = {"card": [], "processor": []}
    features = {}
    for _ in range(rounds + 1):
        for name in rates:
            started = time.perf_counter()
            found = embed_images(encoder, paths, decoding=card if name == "card" else "cpu")
            rates[name].append(found.computed / (time.perf_counter() - started))
            features[name] = found.features
    apart = float((1 - (features["card"] * features["processor"]).sum(1)).max())
    ours, theirs = rates["card"][1:], rates["processor"][1:]
    return [
        Row("embedding, JPEGs decoded by the card", ours, theirs, "pictures/s", "decoded by the processor",
            quotients(ours, theirs), note=f"embeddings at most {apart:.1e} (1 - cosine) apart")
    ]  # fmt: skip


def _seconds(call: Callable[[], object], rounds: int, device: torch.device, repeats: int = 5) -> list[float]:
    """Seconds of one call, a round each, with the device's queue run empty before and after."""
    taken = []
    for _ in range(rounds + 1):
        _wait(device)
        started = time.perf_counter()
        for _ in range(repeats):
            call()
        _wait(device)
        taken.append((time.perf_counter() - started) / repeats)
    return taken[1:]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
