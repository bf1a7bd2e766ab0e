"""Adapters for the tests' tiny models: made by peft from random weights, published as the trainer publishes them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sskai.objects import Objects


def make_adapter(base: Path, folder: Path, *, seed: int, rank: int = 4) -> Path:
    """Write a PEFT LoRA adapter whose weights are random and large enough to change every answer."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(base)
        config = LoraConfig(
            r=rank, lora_alpha=2 * rank, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
        )
        tuned = get_peft_model(model, config)
        for name, parameter in tuned.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter.data, std=0.1)
        tuned.save_pretrained(folder)
    return folder


def make_picture_adapter(pipeline: Path, folder: Path, *, seed: int, **changes: Any) -> Path:
    """Write what the trainer writes of a tuned pipeline, with weights large enough to change every picture."""
    import torch
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig

    from services.trainer import diffusion

    config = LoraConfig(
        **{"r": 4, "lora_alpha": 8, "target_modules": list(diffusion.ATTENTION), "init_lora_weights": False, **changes}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet: Any = UNet2DConditionModel.from_pretrained(pipeline, subfolder="unet")
        unet.add_adapter(config)
        for name, parameter in unet.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                torch.nn.init.normal_(parameter.data, std=0.3)
        diffusion.PictureWeights(unet, torch.device("cpu")).write(folder)
    (folder / "sskai.json").write_text(json.dumps({"kind": "diffusers-lora"}))
    return folder


@dataclass(frozen=True)
class Published:
    uri: str
    manifest_sha256: str


def publish(objects: Objects, folder: Path, prefix: str) -> Published:
    """Upload a folder, its manifest last."""
    files = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        files[path.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        objects.put_bytes(f"{prefix}/{path.name}", data)
    manifest = json.dumps({"format": "sskai.manifest/1", "kind": "artifact", "files": files}).encode()
    objects.put_bytes(f"{prefix}/MANIFEST.json", manifest)
    return Published(objects.uri(prefix), hashlib.sha256(manifest).hexdigest())


def upload(objects: Objects, folder: Path, prefix: str) -> str:
    """As the gateway keeps what a user sent: every file by its name, no manifest. Its URI."""
    for path in folder.rglob("*"):
        if path.is_file():
            objects.put_file(f"{prefix}/{path.relative_to(folder).as_posix()}", path)
    return objects.uri(prefix)
