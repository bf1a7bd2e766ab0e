"""Image classifiers: one pass, no tokens to draw. Whole folders of transformers' image classification, or an adapter.

Pictures are prepared by the folder's own `preprocessor_config.json`, in transformers' Pillow and numpy, as they are in
training (services/trainer/images.py).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from services.inference import heads, pictures
from services.inference.engine import PromptError
from services.inference.loading import architectures
from services.inference.pictures import PictureError, Pictures
from services.inference.turns import Turns

ENDING = "ForImageClassification"
PREPROCESSOR = "preprocessor_config.json"
BATCH = 8  # pictures of one pass
PROBE = (48, 64)  # pixels of an empty picture
MAX_PREPARED_NUMBERS = 3 * 2048 * 2048  # of one picture, where its folder does not say that it is made smaller


class ImageClassifier:
    """`adapter`: a PEFT folder with a head of its own for the labels in its `sskai.json`; it is merged. `waiting`: so
    many calls may wait for the one that computes. Raises what from_pretrained raises, and ValueError."""

    def __init__(self, folder: Path, device: str, waiting: int, adapter: Path | None = None) -> None:
        from transformers import AutoModelForImageClassification

        self._turns = Turns(waiting)
        self._processor = _processor(folder)
        self._model, self.labels = heads.load(AutoModelForImageClassification, folder, adapter, device)
        probe = self._prepared(Image.new("RGB", PROBE), 0)
        self.shape: tuple[int, ...] = tuple(probe.shape)
        if not all(math.isfinite(number) for row in self.classify(probe[None].numpy()) for number in row):
            raise ValueError("the model's answer is not made of finite numbers")

    @staticmethod
    def is_one(folder: Path) -> bool:
        """By the architecture that its config names."""
        return any(name.endswith(ENDING) for name in architectures(folder))

    def classify(self, given: Pictures) -> list[list[float]]:
        """Each picture's probability by label. Blocks. Raises PromptError, OverloadedError."""
        with self._turns.mine(), torch.inference_mode():
            return [row for start in range(0, len(given), BATCH) for row in self._batch(given, start)]

    def _batch(self, given: Pictures, start: int) -> list[list[float]]:
        places = range(start, min(start + BATCH, len(given)))
        rows = [self._of(given[place], place) for place in places]
        if len({row.shape for row in rows}) > 1:
            raise PromptError("the pictures of a request must have one size: this model's folder does not resize them")
        try:
            logits = self._model(pixel_values=torch.stack(rows).to(self._model.device)).logits
        except (RuntimeError, ValueError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            words = f"the model does not take pictures of {list(rows[0].shape)}, but of {list(self.shape)}: {error}"
            raise PromptError(words[:500]) from error
        found: list[list[float]] = torch.softmax(logits.float(), dim=-1).tolist()
        return found

    def _of(self, picture: bytes | np.ndarray[Any, Any], place: int) -> torch.Tensor:
        """float32 (channels, height, width), as the model takes it."""
        if isinstance(picture, bytes):
            return self._prepared(pictures.decoded(picture, place), place)
        if picture.dtype == np.uint8:
            return self._prepared(pictures.from_pixels(picture, place), place)
        return torch.from_numpy(np.array(picture, np.float32))

    def _prepared(self, picture: Image.Image, place: int) -> torch.Tensor:
        try:
            prepared: torch.Tensor = self._processor(images=[picture], return_tensors="pt")["pixel_values"][0]
        except (ValueError, TypeError) as error:
            raise PictureError(place, f"the picture cannot be prepared: {error}"[:300]) from error
        if prepared.numel() > MAX_PREPARED_NUMBERS:
            raise PictureError(place, f"the picture is too large: this model's folder does not resize {picture.size}")
        return prepared.float()


def _processor(folder: Path) -> Any:
    from transformers import AutoImageProcessor

    if not (folder / PREPROCESSOR).is_file():
        raise ValueError(f"it has no {PREPROCESSOR}, which says how its pictures are prepared")
    if "auto_map" in json.loads((folder / PREPROCESSOR).read_bytes()):
        raise ValueError(f"{PREPROCESSOR}: auto_map asks for code from elsewhere, which is never run")
    return AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True, trust_remote_code=False)
