"""Models with a head of classes: a whole folder, or a base with a PEFT adapter that brings the head."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from services.inference import manifests


def load(auto: Any, folder: Path, adapter: Path | None, device: str) -> tuple[Any, tuple[str, ...]]:
    """The model, ready to answer, and its labels in order. `auto`: transformers' class for the task. `adapter`: its
    labels stand in its `sskai.json`; it is merged. Raises what from_pretrained raises."""
    given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    given |= {"dtype": torch.float32, "use_safetensors": True}
    if adapter is None:
        model = auto.from_pretrained(folder, **given)
    else:
        from peft import PeftModel  # takes seconds, and nothing else here needs it

        names = set(os.listdir(adapter))
        labels = manifests.labels(lambda name: (adapter / name).read_bytes(), names)
        given |= {"num_labels": len(labels), "id2label": dict(enumerate(labels)), "ignore_mismatched_sizes": True}
        model = PeftModel.from_pretrained(auto.from_pretrained(folder, **given), str(adapter)).merge_and_unload()
    config = model.config
    return model.to(device).eval(), tuple(str(config.id2label[place]) for place in range(config.num_labels))
