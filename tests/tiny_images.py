"""Image classifiers small enough for a test: random weights, real transformers folders, and a dataset for them."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np

SIDE = 32  # pixels
LABELS = ("columns", "plain", "rows")


def build(folder: Path, *, kind: str = "vit", seed: int = 0) -> Path:
    """Write a classifier of five classes ("vit" | "resnet") to `folder` and return it. Same seed, same weights."""
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "vit":
            model = ViTForImageClassification(
                ViTConfig(
                    hidden_size=32,
                    num_hidden_layers=2,
                    num_attention_heads=2,
                    intermediate_size=64,
                    image_size=SIDE,
                    patch_size=8,
                    num_labels=5,
                )
            )
        else:
            model = ResNetForImageClassification(
                ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=5)
            )
    model.save_pretrained(folder)
    preparing = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": SIDE, "width": SIDE},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preparing))
    return folder


def picture(label: str, number: int, *, form: str = "PNG") -> bytes:
    """Noise with bright columns, bright rows, or neither."""
    from PIL import Image

    pixels = np.random.default_rng(number).integers(0, 60, (SIDE + 8, SIDE, 3), np.uint8)
    if label == "columns":
        pixels[:, number % 4 :: 4] = 250
    if label == "rows":
        pixels[number % 4 :: 4] = 250
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


def dataset(per_class: int = 12, *, top: str = "") -> bytes:
    """A zip with a folder for each of `LABELS`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for label in LABELS:
            for number in range(per_class):
                form, suffix = ("JPEG", "JPG") if number % 5 == 4 else ("PNG", "png")
                archive.writestr(f"{top}{label}/{number}.{suffix}", picture(label, number, form=form))
    return out.getvalue()
