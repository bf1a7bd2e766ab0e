"""What a fine-tuning learns, as files: PEFT's adapter, or a whole transformers model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file

from services.trainer.comparison import NotComparableError
from services.trainer.randomness import Tensors
from services.trainer.sharding import whole

ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
MODEL = "model.safetensors"
CHAMPION = "champion"  # what peft calls an adapter beside "default"
TOKENIZER_SUFFIXES = (".json", ".jinja", ".txt", ".model")  # vocabularies of older tokenizers are plain texts or tables
PYTORCH_METADATA = {"format": "pt"}


class Weights(Protocol):
    """What is learnt, as files: an adapter, or the whole model."""

    def tensors(self) -> Mapping[str, Tensors]:
        """By file name. They may be the model's own: whoever keeps them copies them."""

    def texts(self) -> Mapping[str, bytes]:
        """What lies beside them, so that a checkpoint is a usable model."""

    def load(self, folder: Path) -> None:
        """The opposite."""

    def write(self, folder: Path) -> None:
        """The result as its users load it; of a model in parts, all workers have to ask."""

    def take(self, folder: Path | None) -> None:
        """Become the result in that folder, for a comparison; None: the base alone. What was learnt is gone, unless it
        was written. Raises NotComparableError: it does not fit."""


class AdapterWeights:
    """An adapter under PEFT's names, float32: its two files are PEFT's own."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._live: Tensors | None = None

    def tensors(self) -> Mapping[str, Tensors]:
        if self._live is None:
            # Peft finds an adapter's tensors by walking through the whole model, several times: most of what a save of
            # a small adapter would wait for. They stay the same tensors; learning and loading change them in place.
            self._live = get_peft_model_state_dict(self._model, save_embedding_layers=False)
        return {ADAPTER: {name: value.detach().to(torch.float32).contiguous() for name, value in self._live.items()}}

    def texts(self) -> Mapping[str, bytes]:
        config = {**self._model.peft_config["default"].to_dict(), "inference_mode": True}
        return {ADAPTER_CONFIG: json.dumps(config, indent=2, sort_keys=True, default=_plain).encode()}

    def load(self, folder: Path) -> None:
        set_peft_model_state_dict(self._model, load_file(folder / ADAPTER, device=str(self._device)))

    def write(self, folder: Path) -> None:
        _write(
            folder,
            {ADAPTER: {name: whole(value).cpu() for name, value in self.tensors()[ADAPTER].items()}},
            self.texts(),
        )

    def take(self, folder: Path | None) -> None:
        """As a second adapter, which may be of another rank and on other layers."""
        if folder is None:
            self._model.base_model.disable_adapter_layers()
            return
        try:
            found = self._model.load_adapter(str(folder), CHAMPION, torch_device=str(self._device))
        except (RuntimeError, ValueError, TypeError, KeyError, OSError) as error:
            raise NotComparableError(f"its adapter does not fit this base: {error}"[:500]) from error
        if found.unexpected_keys:
            raise NotComparableError(f"its adapter does not fit this base: {found.unexpected_keys[0]} has no place")
        self._model.set_adapter(CHAMPION)


class FullWeights:
    """All parameters and buffers under their own names, with config and tokenizer: a folder of transformers'."""

    def __init__(self, model: Any, tokenizer_folder: Path, stored_type: torch.dtype) -> None:
        self._model = model
        self._tokenizer_folder = tokenizer_folder
        self._stored_type = stored_type  # of the result; a checkpoint keeps every bit

    def tensors(self) -> Mapping[str, Tensors]:
        return {MODEL: {name: value.detach().contiguous() for name, value in self._named().items()}}

    def texts(self) -> Mapping[str, bytes]:
        """The base's own words, but for its config: a classifier has labels that its base has not."""
        names = {path.name: path for path in self._tokenizer_folder.iterdir() if path.suffix in TOKENIZER_SUFFIXES}
        beside = {
            name: path.read_bytes()
            for name, path in names.items()
            if name not in ("config.json", "model.safetensors.index.json")
        }
        return {**beside, "config.json": self._model.config.to_json_string(use_diff=False).encode()}

    def load(self, folder: Path) -> None:
        saved = load_file(folder / MODEL)
        with torch.no_grad():
            for name, value in self._named().items():
                value.copy_(saved[name])

    def write(self, folder: Path) -> None:
        named = {
            name: (whole(value).to(self._stored_type) if value.is_floating_point() else whole(value)).cpu()
            for name, value in self.tensors()[MODEL].items()
        }
        _write(folder, {MODEL: named}, self.texts())

    def take(self, folder: Path | None) -> None:
        saved = _whole(folder)
        named = self._named()
        for name, value in named.items():
            if name not in saved or saved[name].shape != value.shape:
                raise NotComparableError(f"its weights are another model's: {name} is not the same")
        with torch.no_grad():
            for name, value in named.items():
                value.copy_(saved[name])

    def _named(self) -> dict[str, Any]:
        """Without the second name of tied weights, and without what a config alone gives."""
        lasting = self._model.state_dict().keys()
        buffers = {name: value for name, value in self._model.named_buffers() if name in lasting}
        return {**dict(self._model.named_parameters()), **buffers}


def _whole(folder: Path | None) -> Tensors:
    if folder is None or not (folder / MODEL).is_file():
        raise NotComparableError(f"there is no {MODEL}")
    found: Tensors = load_file(folder / MODEL)
    return found


def _write(folder: Path, files: Mapping[str, Tensors], texts: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, tensors in files.items():
        save_file(tensors, folder / name, metadata=PYTORCH_METADATA)
    for name, text in texts.items():
        (folder / name).write_bytes(text)


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
