"""Every generator that a step may draw from, and what makes torch compute the same bits again."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Deterministic cuBLAS needs it before CUDA starts: https://docs.nvidia.com/cuda/cublas/#results-reproducibility
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class RandomState:
    """The generators' states: torch's as tensors, Python's and numpy's as JSON."""

    tensors: Tensors
    json: Mapping[str, Any]

    @classmethod
    def of(cls, device: torch.device) -> RandomState:
        tensors = {"torch": torch.get_rng_state()}
        if device.type == "cuda":
            tensors["cuda"] = torch.cuda.get_rng_state()
        generator, words, *position = np.random.get_state()
        return cls(
            tensors, {"python": _python().getstate(), "numpy": [generator, np.asarray(words).tolist(), *position]}
        )

    def restore(self, device: torch.device) -> None:
        torch.set_rng_state(self.tensors["torch"])
        if device.type == "cuda" and "cuda" in self.tensors:
            torch.cuda.set_rng_state(self.tensors["cuda"])
        version, words, gauss = self.json["python"]
        _python().setstate((version, tuple(words), gauss))
        generator, words, *position = self.json["numpy"]
        np.random.set_state((generator, np.asarray(words, dtype=np.uint32), *position))


def separate() -> None:
    """Give what is imported from here on a `random` of its own. The one that was there is shared with boto3 and
    Kafka's client, which draw from it in threads, whenever they please."""
    spec = importlib.util.find_spec("random")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules["random"] = module


def _python() -> Any:
    """The module `random` as an import finds it now."""
    return importlib.import_module("random")


def seed_all(seed: int) -> None:
    _python().seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def make_deterministic(threads: int) -> None:
    """Sums are split by thread, so the number of threads is part of the result."""
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
