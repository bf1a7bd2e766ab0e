"""What this machine computes on, and in which numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch

from services.trainer.domain import WHOLE


def device_of_this_machine() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


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
