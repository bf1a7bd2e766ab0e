"""What a pod without training trains: a chain of hashes, one link a step. Equal steps come to an equal state."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path


def link(before: str, step: int) -> str:
    """One step of the training."""
    return hashlib.sha256(f"{before}/{step}".encode()).hexdigest()


def chain(steps: int) -> str:
    """What so many steps come to."""
    state = ""
    for step in range(1, steps + 1):
        state = link(state, step)
    return state


def write_artifact(folder: Path, state: str) -> Path:
    """A result that the trainer's service takes: an adapter of two numbers, with the state in its card."""
    folder.mkdir(exist_ok=True)
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
    (folder / "adapter_config.json").write_text(json.dumps({"r": 4, "base_model_name_or_path": "tiny"}))
    (folder / "README.md").write_text(f"# {state}")
    return folder
