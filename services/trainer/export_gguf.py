"""A transformers folder as one GGUF file, for llama.cpp and all that is built on it.

The names, the order of the rotary halves and the tokenizer's fields are llama.cpp's (its `convert_hf_to_gguf.py`).
Only what is known to be the same model there is written: anything else is refused with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGUFWriter, TokenType
from safetensors import safe_open
from transformers import AutoTokenizer

from services.trainer.exports import NotExportableError, config_of

# model_type -> llama.cpp's architecture, and whether its queries and keys have their rotary halves interleaved there.
ARCHITECTURES = {"llama": ("llama", True), "mistral": ("llama", True), "qwen2": ("qwen2", False)}
_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
# How a text is split before its tokens are merged -> llama.cpp's name for that.
PATTERNS = {_LLAMA_3: "llama-bpe", _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}"): "qwen2"}


def write(folder: Path, target: Path, name: str) -> str:
    """Returns what was written, in words. Raises NotExportableError; nothing is left then."""
    config = config_of(folder)
    if config.get("model_type") not in ARCHITECTURES:
        raise NotExportableError(
            f"GGUF is written for {', '.join(ARCHITECTURES)}, and this is a {config.get('model_type')}"
        )
    if not str((config.get("architectures") or [""])[0]).endswith("ForCausalLM"):
        raise NotExportableError("GGUF is written for language models only")
    architecture, interleaved = ARCHITECTURES[config["model_type"]]
    writer = GGUFWriter(target, architecture)
    try:
        _add_shape(writer, config, name)
        _add_tokenizer(writer, folder, int(config["vocab_size"]))
        half = _write_tensors(writer, folder, config, architecture, interleaved=interleaved)
    except BaseException:
        writer.close()
        target.unlink(missing_ok=True)
        raise
    writer.close()
    return "float16" if half else "float32"


def _add_shape(writer: GGUFWriter, config: dict[str, Any], name: str) -> None:
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise NotExportableError(f"its rotary positions are scaled ({kind}), which is not written yet")
    heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
    head = int(config.get("head_dim") or width // heads)
    writer.add_name(name)
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_context_length(int(config["max_position_embeddings"]))
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0))
    writer.add_layer_norm_rms_eps(float(config["rms_norm_eps"]))
    writer.add_vocab_size(int(config["vocab_size"]))


def _add_tokenizer(writer: GGUFWriter, folder: Path, vocabulary: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    model = described["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise NotExportableError("its tokenizer is no byte-level BPE, the only kind that is written yet")
    splitting = _splitting(described.get("pre_tokenizer") or {})
    tokens = [f"[PAD{number}]" for number in range(vocabulary)]
    types = [int(TokenType.UNUSED)] * vocabulary
    for token, number in tokenizer.get_vocab().items():
        if number >= vocabulary:
            raise NotExportableError(f"its tokenizer has a token {number}, the model only {vocabulary}")
        tokens[number], types[number] = token, int(TokenType.NORMAL)
    for added in described["added_tokens"]:
        types[added["id"]] = int(TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([it if isinstance(it, str) else " ".join(it) for it in model["merges"]])
    for number, add in (
        (tokenizer.bos_token_id, writer.add_bos_token_id),
        (tokenizer.eos_token_id, writer.add_eos_token_id),
        (tokenizer.unk_token_id, writer.add_unk_token_id),
        (tokenizer.pad_token_id, writer.add_pad_token_id),
    ):
        if number is not None:
            add(number)
    started = tokenizer("a")["input_ids"]
    writer.add_add_bos_token(tokenizer.bos_token_id is not None and started[0] == tokenizer.bos_token_id)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)


def _splitting(described: dict[str, Any]) -> str:
    parts = described["pretokenizers"] if described.get("type") == "Sequence" else [described]
    kinds = [part.get("type") for part in parts]
    if kinds == ["ByteLevel"] and parts[0].get("use_regex"):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"]:
        known = PATTERNS.get(str(parts[0]["pattern"].get("Regex")))
        if known:
            return known
    raise NotExportableError(f"its tokenizer splits texts in a way that GGUF has no known name for ({kinds})")


def _write_tensors(
    writer: GGUFWriter, folder: Path, config: dict[str, Any], architecture: str, *, interleaved: bool
) -> bool:
    """Two passes: shapes first, as the file's head needs them, then one tensor at a time. True: matrices are halves."""
    number = next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == architecture)
    names = gguf.get_tensor_name_map(number, int(config["num_hidden_layers"]))
    half = False
    listed: list[str] = []
    for name, shape, dtype in _shapes(folder):
        if name == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise NotExportableError(f"its tensor {name} has no name in GGUF")
        matrix = len(shape) > 1 and dtype in ("F16", "BF16")
        half = half or matrix
        kind = np.dtype(np.float16 if matrix else np.float32)
        writer.add_tensor_info(known, shape, kind, int(np.prod(shape)) * kind.itemsize)
        listed.append(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if half else gguf.LlamaFileType.ALL_F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    heads = int(config["num_attention_heads"])
    turned = {"q_proj": heads, "k_proj": int(config.get("num_key_value_heads") or heads)} if interleaved else {}
    for name, tensor in _tensors(folder, listed):
        pieces, written = name.split("."), tensor
        if pieces[-2] in turned:
            written = _interleaved(tensor, turned[pieces[-2]])
        matrix = tensor.ndim > 1 and tensor.dtype != torch.float32
        values = written.to(torch.float16 if matrix else torch.float32).contiguous().numpy()
        if matrix and not np.isfinite(values).all():
            raise NotExportableError(f"{name} has values that float16 cannot hold")
        writer.write_tensor_data(values)
    return half


def _interleaved(tensor: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows (heads, 2, half) become (heads, half, 2): llama.cpp turns neighbours, transformers the two halves."""
    half = tensor.shape[0] // heads // 2
    return tensor.reshape(heads, 2, half, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("model*.safetensors"))


def _shapes(folder: Path) -> Iterator[tuple[str, list[int], str]]:
    for path in _files(folder):
        with safe_open(path, framework="pt") as tensors:
            for name in sorted(tensors.keys()):
                piece = tensors.get_slice(name)
                yield name, piece.get_shape(), piece.get_dtype()


def _tensors(folder: Path, listed: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """In the order of `_shapes`."""
    wanted = set(listed)
    for path in _files(folder):
        with safe_open(path, framework="pt") as tensors:
            for name in sorted(tensors.keys()):
                if name in wanted:
                    yield name, tensors.get_tensor(name)
