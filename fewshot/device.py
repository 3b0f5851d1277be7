"""Which device computes, and in which precision, from the two flags `--device` and `--precision`."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch

from episodes.errors import UsageError
from fewshot.distributed import local_rank

Precision = Literal["auto", "32", "bf16", "16"]
_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16}


def resolve_device(device: str = "auto") -> torch.device:
    """Find the device: "auto" is the GPU where there is one, else the CPU.

    Raises:
        UsageError: the device is not known to torch, or not on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and torch.cuda.is_available() and (own := local_rank()) is not None:
        device = f"cuda:{own % torch.cuda.device_count()}"  # of several processes each has a GPU of its own
    try:
        resolved = torch.device(device)
        torch.empty(1, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(
            f"device {device!r} cannot be used here: {str(error).splitlines()[0]}. Try --device cpu, or auto"
        ) from error
    return resolved


def resolve_precision(precision: Precision, device: torch.device) -> Literal["32", "bf16", "16"]:
    """Find the precision: "auto" is bfloat16 where the hardware multiplies it natively, float16 on older GPUs, else float32.

    Raises:
        UsageError: float16 on a CPU, where it is neither fast nor safe.
    """
    if precision == "16" and device.type == "cpu":
        raise UsageError("precision 16 (float16) needs a GPU; on a CPU use bf16 or 32")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "16"
    if device.type == "cpu" and cpu_has_bf16():
        return "bf16"
    return "32"


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 natively (AVX-512 bf16 or AMX)."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, probe, lambda: False)()) for probe in probes)


def autocast(precision: Literal["32", "bf16", "16"], device: torch.device) -> contextlib.AbstractContextManager[object]:
    """The autocast context of a resolved precision; none for float32."""
    if precision == "32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])
