"""Is this upload a model? Only safetensors with a transformers config (`pipelines.py`: with those of a pipeline's
parts); pickles are refused by their content.

A pickle runs code when it is read, and scanners do not make it safe, so no such file is ever stored. Format of
safetensors: 8 bytes little-endian length, a JSON header, the tensors' bytes without gaps
(https://huggingface.co/docs/safetensors/index#format).
"""

from __future__ import annotations

import json
import math
import re
from typing import IO, Any, BinaryIO, TypeGuard

from sskai.archives import is_pickle

MAX_HEADER_BYTES = 16 * 1024 * 1024  # a header of 100,000 tensors is about 10 MB
MAX_DOCUMENT_BYTES = 64 * 1024 * 1024  # tokenizer.json of the largest vocabularies is about 35 MB
MAX_CONFIG_BYTES = 64 * 1024  # it travels in every JobSubmitted
MAX_DIMENSIONS = 16
DTYPE_BITS = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "U16": 16,
    "I16": 16,
    "F16": 16,
    "BF16": 16,
    "U32": 32,
    "I32": 32,
    "F32": 32,
    "U64": 64,
    "I64": 64,
    "F64": 64,
}
DOCUMENTS = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "preprocessor_config.json",
    "model.safetensors.index.json",
}
CONFIGS = {"config.json", "preprocessor_config.json"}
TEXTS = {"merges.txt", "chat_template.jinja"}
REQUIRED = "config.json"
PREPARING = ("tokenizer.json", "preprocessor_config.json")  # what turns texts, or pictures, into a model's input

WEIGHTS_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\.safetensors")
_PICKLE_PROTOCOLS = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_ZIP = b"PK\x03\x04"  # what torch.save writes since 1.6: pickles in an archive


class RefusedError(Exception):
    """The file, or the set of files, is no model that we store. The text says why and what to do."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason


def check_names(names: list[str]) -> None:
    """Whether the set of files can be a model. Raises RefusedError."""
    for name in names:
        if name not in DOCUMENTS and name not in TEXTS and not WEIGHTS_NAME.fullmatch(name):
            known = ", ".join(sorted(DOCUMENTS | TEXTS))
            raise RefusedError(name, f"not a file of a model: send *.safetensors and any of {known}")
    if len(set(names)) != len(names):
        raise RefusedError("files", "a file was sent twice")
    if REQUIRED not in names:
        raise RefusedError(REQUIRED, "missing: save the model with save_pretrained() and send that folder")
    if not set(PREPARING) & set(names):
        raise RefusedError(
            PREPARING[0],
            f"missing, and so is {PREPARING[1]}: save the tokenizer, or what prepares pictures, beside the model",
        )
    if not any(WEIGHTS_NAME.fullmatch(name) for name in names):
        raise RefusedError("model.safetensors", "missing: the weights must come as safetensors")


def check_file(name: str, file: BinaryIO, size_bytes: int) -> int:
    """Whether the content is what the name says; how many parameters it holds. Raises RefusedError."""
    file.seek(0)
    start = file.read(8)
    if start.startswith((*_PICKLE_PROTOCOLS, _ZIP)):
        raise RefusedError(name, "this is a pickle, which can run code: convert the weights to safetensors")
    if name.endswith(".safetensors"):
        return check_safetensors(name, file, size_bytes)
    if name.endswith(".json"):
        read_document(name, file, size_bytes)
    else:
        _read_text(name, file, size_bytes)
        file.seek(0)
        if is_pickle(file):  # the first two protocols are plain text
            raise RefusedError(name, "this is a pickle, which can run code: send the text itself")
    return 0


def read_config(file: BinaryIO, size_bytes: int) -> str:
    """The model's configuration as compact JSON. Raises RefusedError."""
    config = read_document("config.json", file, size_bytes)
    if not isinstance(config.get("model_type"), str) or not isinstance(config.get("architectures"), list):
        raise RefusedError(
            "config.json", "model_type and architectures must be there, as save_pretrained() writes them"
        )
    text = json.dumps(config, separators=(",", ":"))
    if len(text) > MAX_CONFIG_BYTES:
        raise RefusedError("config.json", f"{len(text)} characters; the limit is {MAX_CONFIG_BYTES}")
    return text


def _read_text(name: str, file: BinaryIO, size_bytes: int) -> str:
    if size_bytes > MAX_DOCUMENT_BYTES:
        raise RefusedError(name, f"{size_bytes} bytes; the limit is {MAX_DOCUMENT_BYTES}")
    file.seek(0)
    try:
        return file.read(MAX_DOCUMENT_BYTES).decode()
    except UnicodeDecodeError as error:
        raise RefusedError(name, f"not UTF-8 at byte {error.start + 1}") from error


def read_document(name: str, file: BinaryIO, size_bytes: int) -> dict[str, Any]:
    """The JSON object that the file is. Raises RefusedError."""
    try:
        document = json.loads(_read_text(name, file, size_bytes))
    except (ValueError, RecursionError) as error:
        raise RefusedError(name, f"not JSON: {error}") from error
    if not isinstance(document, dict):
        raise RefusedError(name, "not a JSON object")
    if name.rpartition("/")[2] in CONFIGS and "auto_map" in document:
        raise RefusedError(name, "auto_map asks for code from elsewhere, which is never run: remove it")
    return document


def check_safetensors(name: str, file: IO[bytes], size_bytes: int) -> int:
    """Whether tensors fill the file as its header says; how many elements they have. Raises RefusedError."""
    file.seek(0)
    prefix = file.read(8)
    header_bytes = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or header_bytes > MAX_HEADER_BYTES or 8 + header_bytes > size_bytes:
        raise RefusedError(name, "not safetensors: its first 8 bytes are no length of a header")
    text = file.read(header_bytes)
    try:
        header = json.loads(text.decode(), object_pairs_hook=_each_once, parse_constant=_no_json)
        json.dumps(header, ensure_ascii=False).encode()  # names with half of a surrogate pair are none
    except (ValueError, RecursionError) as error:
        raise RefusedError(name, "not safetensors: the header is not JSON") from error
    if not isinstance(header, dict) or not text.startswith(b"{"):
        raise RefusedError(name, "not safetensors: the header is not a JSON object")
    if not _texts(header.get("__metadata__", {})):
        raise RefusedError(name, "not safetensors: __metadata__ holds other things than texts")
    spans = sorted(_span(name, tensor, entry) for tensor, entry in header.items() if tensor != "__metadata__")
    if not spans:
        raise RefusedError(name, "holds no tensors")
    end = 0
    for begin, following in spans:
        if begin != end:
            raise RefusedError(name, "tensors overlap or leave gaps")
        end = following
    if end != size_bytes - 8 - header_bytes:
        raise RefusedError(
            name, f"the header speaks of {end} bytes of tensors, the file has {size_bytes - 8 - header_bytes}"
        )
    return sum(math.prod(entry["shape"]) for tensor, entry in header.items() if tensor != "__metadata__")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """As the library that reads the file later does: of two that have one name it takes neither."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("a name stands twice")
    return made


def _no_json(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _texts(metadata: Any) -> bool:
    return isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())


def _span(name: str, tensor: str, entry: Any) -> tuple[int, int]:
    """Where a tensor lies, if its entry makes sense."""
    fields = entry if isinstance(entry, dict) else {}
    bits = DTYPE_BITS.get(str(fields.get("dtype")))
    shape, offsets = fields.get("shape"), fields.get("data_offsets")
    if (
        bits is None
        or not (_naturals(shape) and len(shape) <= MAX_DIMENSIONS)
        or math.prod(max(size, 1) for size in shape) * bits >= 2**64  # as the library counts, whatever is 0 among them
        or not (_naturals(offsets) and len(offsets) == 2)
        or (offsets[1] - offsets[0]) * 8 != math.prod(shape) * bits
    ):
        raise RefusedError(name, f"tensor {tensor[:80]!r}: dtype, shape and data_offsets do not fit each other")
    return offsets[0], offsets[1]


def _naturals(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**63 for value in values)
