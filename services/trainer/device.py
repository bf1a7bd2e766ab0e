"""What this machine computes on, and in which numbers."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch

from services.trainer.domain import WHOLE


def device_of_this_machine() -> torch.device:
    """The GPU of this process, which may be one of several workers; else the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cuda")


def precision(device: torch.device, method: str) -> str:
    """What is computed in, "float32" | "bfloat16" | "float16"; an adapter on a GPU computes in its base's own type."""
    if device.type == "cpu":
        return "float32"
    if not torch.cuda.is_bf16_supported():
        return "float16"
    return "bfloat16" if method in WHOLE else "float32"


def autocast(device: torch.device, computed_in: str) -> Callable[[], torch.autocast]:
    """Contexts that compute in such a precision."""
    types = {"bfloat16": torch.bfloat16, "float16": torch.float16}
    kind = types.get(computed_in)
    return lambda: torch.autocast(device.type, dtype=kind, enabled=kind is not None)
