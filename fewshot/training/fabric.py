"""How lightning-fabric is set up for one process or many, in the precision that was asked for; `training.run` calls it."""

from __future__ import annotations

import datetime
import os
from typing import Any

from fewshot.config import TrainConfig
from fewshot.device import resolve_device, resolve_precision
from fewshot.distributed import rank_and_world

_FABRIC_PRECISION = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def make_fabric(config: TrainConfig) -> Any:
    """Set lightning-fabric up for this process, or for all that torchrun started."""
    import logging

    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces what metrics and config.json say
    device = resolve_device(config.device)
    precision: Any = _FABRIC_PRECISION[resolve_precision(config.precision, device)]
    processes = rank_and_world()[1]
    accelerator = {"cuda": "cuda", "cpu": "cpu", "mps": "mps"}.get(device.type, device.type)
    if processes > 1:
        local = int(os.environ.get("LOCAL_WORLD_SIZE", str(processes)))
        # The encoder gets no gradient while the classifier warms up.
        # One process embeds, validates and makes trunks while the others wait: as long as that takes.
        strategy = DDPStrategy(find_unused_parameters=config.head_warmup > 0, timeout=datetime.timedelta(days=1))
        fabric = Fabric(
            accelerator=accelerator, devices=local, num_nodes=processes // local, strategy=strategy, precision=precision
        )
        fabric.launch()
        return fabric
    devices: Any = [device.index or 0] if device.type == "cuda" else 1
    return Fabric(accelerator=accelerator, devices=devices, precision=precision)


def scaler_of(fabric: Any) -> Any:
    """The gradient scaler of float16 training; None in every other precision."""
    return getattr(fabric.strategy.precision, "scaler", None)
