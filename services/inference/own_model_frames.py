"""How the service and a user's model behind walls speak: frames over its pipes. Only the stdlib; both sides use it.

A frame is a letter, eight bytes of length (little-endian) and the payload: tensors as safetensors, or a JSON object.
"""

from __future__ import annotations

import struct

HEAD = struct.Struct("<cQ")
READY = b"R"  # JSON {"signature": ...}: the model is built, and told what it takes and gives
TENSORS = b"T"  # a question's inputs by name, or its answer's outputs
ERROR = b"E"  # JSON {"error": text for the user}: instead of READY or of an answer


def head(kind: bytes, payload: bytes) -> bytes:
    return HEAD.pack(kind, len(payload))
