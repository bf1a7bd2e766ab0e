"""Image classifiers of transformers as a task: a new head for the dataset's classes, and an adapter or all weights.

Pictures are prepared by the folder's own `preprocessor_config.json`, in transformers' Pillow and numpy: what is trained
on looks as what its user will prepare.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from services.trainer.classes import NamesClasses, classes
from services.trainer.device import autocast
from services.trainer.domain import WHOLE, Recipe, TrainingFailedError
from services.trainer.finetune import Base, learning
from services.trainer.pictures import LabelledPicture, decoded, named
from services.trainer.randomness import seed_all
from services.trainer.results import PREPROCESSOR

HEAD = "classifier"  # in almost all of transformers' image classifiers
PROBE = (48, 64)  # pixels of an empty picture


def load_base(
    folder: Path, device: torch.device, *, method: str = "lora", labels: Sequence[str] = (), seed: int = 0
) -> Base:
    """A transformers folder with a `preprocessor_config.json`; `tokenizer` is what prepares pictures. Safetensors only,
    no code of the model's own, nothing fetched; float32 on every device.

    Raises TrainingFailedError("user-error").
    """
    from transformers import AutoConfig, AutoModelForImageClassification
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    if method not in ("", "lora", *WHOLE):
        raise TrainingFailedError(
            "user-error", f"model.method: pictures are classified by lora, full or scratch, not by {method}"
        )
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    seed_all(seed)  # a new head is drawn from the generators: the same one for the same seed
    try:
        processor = _processor(folder)
        config = AutoConfig.from_pretrained(folder, **local, **classes(labels))
        if method == "scratch":
            model = AutoModelForImageClassification.from_config(config, dtype=torch.float32)
        else:
            model = AutoModelForImageClassification.from_pretrained(
                folder,
                config=config,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                **local,
            )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        raise TrainingFailedError("user-error", f"model: {folder.name} cannot be loaded: {error}") from error
    if not hasattr(model, HEAD):
        raise TrainingFailedError(
            "user-error", f"model: a {type(model).__name__} has no head named {HEAD}: it is not known here"
        )
    base = Base(model.to(device), processor, folder, device, 0)
    _try(base)
    return base


def _processor(folder: Path) -> Any:
    from transformers import AutoImageProcessor

    if not (folder / PREPROCESSOR).is_file():
        raise OSError(f"it has no {PREPROCESSOR}, which says how its pictures are prepared")
    if "auto_map" in json.loads((folder / PREPROCESSOR).read_bytes()):
        raise ValueError(f"{PREPROCESSOR}: auto_map asks for code from elsewhere, which is never run")
    return AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True, trust_remote_code=False)


def _try(base: Base) -> None:
    """Whether what prepares pictures makes what the model takes."""
    from PIL import Image

    base.model.eval()
    try:
        prepared = _prepared(base.tokenizer, [Image.new("RGB", PROBE)])
        with torch.no_grad():
            scores = base.model(pixel_values=prepared.to(base.device)).logits
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        raise TrainingFailedError(
            "user-error", f"model: {PREPROCESSOR} and config.json do not go together: {error}"
        ) from error
    if scores.shape != (1, base.model.config.num_labels):
        raise TrainingFailedError("user-error", f"model: it gives scores of {list(scores.shape)} for one picture")


def _prepared(processor: Any, pictures: Sequence[Any]) -> torch.Tensor:
    """float32 (pictures, channels, height, width)."""
    prepared: torch.Tensor = processor(images=list(pictures), return_tensors="pt")["pixel_values"]
    return prepared.float()


class ImageClassifier(NamesClasses[LabelledPicture]):
    """Names the class of a picture."""

    def __init__(
        self,
        base: Base,
        recipe: Recipe,
        base_name: str,
        training: Sequence[LabelledPicture],
        held_out: Sequence[LabelledPicture],
    ) -> None:
        self.training, self.held_out = training, held_out
        # Running figures belong to the base, which an adapter leaves as it is.
        self._still = [each for each in base.model.modules() if recipe.rank and _counts(each)]
        targets = list(recipe.target_modules) or _layers(base.model)
        self.model, self.weights = learning(base, recipe, base_name, target_modules=targets, modules_to_save=[HEAD])
        self._processor = base.tokenizer
        self._device = base.device
        self._autocast = autocast(base.device, recipe.precision)
        self._flip = recipe.horizontal_flip

    def scores(self, samples: Sequence[LabelledPicture]) -> torch.Tensor:
        for each in self._still:
            each.eval()
        pixels = _prepared(self._processor, [decoded(sample) for sample in samples])
        if self._flip and self.model.training:
            # Drawn on the CPU, from the generator that a checkpoint keeps: the same on every device.
            mirrored = torch.rand(len(samples)) < 0.5
            pixels = torch.where(mirrored[:, None, None, None], pixels.flip(-1), pixels)
        with self._autocast():
            logits: torch.Tensor = self.model(pixel_values=pixels.to(self._device)).logits
        return logits

    def tokens(self, samples: Sequence[LabelledPicture]) -> int:
        """Pictures: there is nothing smaller to count."""
        return len(samples)

    def names(self, samples: Sequence[LabelledPicture]) -> str:
        return named(samples)


def _counts(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.modules.batchnorm._BatchNorm)


def _layers(model: Any) -> list[str]:
    """What an adapter is put on: all linear layers but the head; of a network without any, its convolutions."""
    inner = {name: it for name, it in model.named_modules() if name.partition(".")[0] != HEAD}
    linear = [name for name, it in inner.items() if isinstance(it, torch.nn.Linear)]
    return linear or [name for name, it in inner.items() if isinstance(it, torch.nn.Conv2d) and it.groups == 1]


def versions() -> dict[str, str]:
    """What a checkpoint was written by, beside what `finetune.versions` tells: Pillow's filters round as they do."""
    import PIL

    return {"pillow": PIL.__version__}
