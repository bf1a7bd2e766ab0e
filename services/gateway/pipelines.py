"""Is this upload a text-to-image pipeline of diffusers? `model_index.json` and a folder for each of its parts.

Known are the parts that a training step needs: those of Stable Diffusion 1 and 2. Nothing of an upload is imported: a
part of a class from elsewhere would be code, and is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

from services.gateway.weights import MAX_CONFIG_BYTES, TEXTS, WEIGHTS_NAME, RefusedError

INDEX = "model_index.json"
CLASS = "StableDiffusionPipeline"
CLASSES = {  # of each part
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
}
PARTS = (*CLASSES, "scheduler")  # any scheduler of diffusers: the trainer has its own, with that one's figures
WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
CONFIGS = {
    "unet": "unet/config.json",
    "vae": "vae/config.json",
    "text_encoder": "text_encoder/config.json",
    "tokenizer": "tokenizer/tokenizer_config.json",
    "scheduler": "scheduler/scheduler_config.json",
}
DOCUMENTS = {
    "config.json",
    "scheduler_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    *(f"{stem}.safetensors.index.json" for stem in WEIGHTS.values()),
}
PREDICTIONS = ("epsilon", "v_prediction")
MAX_LATENT_SIDE = 512  # pictures of 4,096 pixels
MAX_TOKENS = 4096

_SAVE = "save the pipeline with save_pretrained() and send that folder"

Read = Callable[[str], dict[str, Any]]  # a JSON file of the upload


def check_names(names: Collection[str]) -> None:
    """Whether the set of files can be a pipeline. Raises RefusedError."""
    for name in names:
        part, _, file = name.rpartition("/")
        if name == INDEX:
            continue
        if part not in PARTS:
            raise RefusedError(name, f"of no part that is trained with: send {INDEX} and {', '.join(PARTS)} alone")
        if file not in DOCUMENTS | TEXTS and not (part in WEIGHTS and WEIGHTS_NAME.fullmatch(file)):
            raise RefusedError(name, "not a file of a pipeline: weights are *.safetensors, the rest is JSON or text")
    present = set(names)
    for name in CONFIGS.values():
        if name not in present:
            raise RefusedError(name, f"missing: {_SAVE}")
    for part, stem in WEIGHTS.items():
        whole = f"{part}/{stem}.safetensors"
        if not present & {whole, f"{whole}.index.json"}:
            raise RefusedError(whole, "missing: the weights must come as safetensors, without a variant in their name")
    if not present & {"tokenizer/tokenizer.json", "tokenizer/vocab.json"}:
        raise RefusedError("tokenizer/tokenizer.json", f"missing, and so is tokenizer/vocab.json: {_SAVE}")


def read_config(read: Read) -> str:
    """The pipeline's configuration: that of each part by its name, and what it is, as compact JSON.
    Raises RefusedError."""
    _check_index(read(INDEX))
    parts = {part: read(name) for part, name in CONFIGS.items()}
    _check_parts(parts)
    tokenizer = {"model_max_length": parts["tokenizer"]["model_max_length"]}
    text = json.dumps({"_class_name": CLASS, **parts, "tokenizer": tokenizer}, separators=(",", ":"))
    if len(text) > MAX_CONFIG_BYTES:
        raise RefusedError(INDEX, f"its parts' configurations have {len(text)} characters; at most {MAX_CONFIG_BYTES}")
    return text


def _check_index(index: dict[str, Any]) -> None:
    kind = index.get("_class_name")
    if kind != CLASS:
        raise RefusedError(INDEX, f"_class_name is {_short(kind)}: only a {CLASS} can be trained")
    for part in PARTS:
        entry = index.get(part)
        library, name = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
        known = CLASSES.get(part)
        if library not in ("diffusers", "transformers") or (known and name not in known):
            wanted = " or ".join(known) if known else "one of diffusers"
            raise RefusedError(INDEX, f"{part} is {_short(entry)}: it has to be {wanted}")


def _check_parts(parts: dict[str, dict[str, Any]]) -> None:
    """Whether the parts fit each other and the trainer."""
    unet, vae, told = parts["unet"], parts["vae"], parts["text_encoder"]
    side = unet.get("sample_size")
    if type(side) is not int or not 0 < side <= MAX_LATENT_SIDE:
        raise RefusedError(
            CONFIGS["unet"], f"sample_size is {_short(side)}: it has to be a number up to {MAX_LATENT_SIDE}"
        )
    if unet.get("in_channels", 4) != vae.get("latent_channels", 4):
        raise RefusedError(
            CONFIGS["unet"],
            f"in_channels is {_short(unet.get('in_channels'))}, but the autoencoder gives "
            f"{_short(vae.get('latent_channels', 4))} channels: one for inpainting cannot be trained",
        )
    if unet.get("cross_attention_dim") != told.get("hidden_size"):
        raise RefusedError(
            CONFIGS["unet"],
            f"cross_attention_dim is {_short(unet.get('cross_attention_dim'))}, but the text encoder's hidden_size is "
            f"{_short(told.get('hidden_size'))}",
        )
    length = parts["tokenizer"].get("model_max_length")
    if type(length) is not int or not 0 < length <= MAX_TOKENS:
        raise RefusedError(
            CONFIGS["tokenizer"], f"model_max_length is {_short(length)}: it has to be a number up to {MAX_TOKENS}"
        )
    predicted = parts["scheduler"].get("prediction_type", PREDICTIONS[0])
    if predicted not in PREDICTIONS:
        raise RefusedError(
            CONFIGS["scheduler"], f"prediction_type is {_short(predicted)}: it has to be {' or '.join(PREDICTIONS)}"
        )


def _short(value: Any) -> str:
    return json.dumps(value)[:80]
