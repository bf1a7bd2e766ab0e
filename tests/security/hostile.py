"""Files that run code where they are unpickled, in all the disguises that scanners were fooled by, and a canary."""

from __future__ import annotations

import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np


class Runs:
    """Its pickle calls `function(*arguments)`."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.made = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.made


def script(canary: Path) -> str:
    return f"open({str(canary)!r}, 'w').close()"


def by_hand(module: str, name: str, argument: str) -> bytes:
    """Protocol 0: plain text all through."""
    return f"c{module}\n{name}\n(S{argument!r}\ntR.".encode()


def pickles(canary: Path) -> dict[str, bytes]:
    """By what is odd about each. All but those of `NEEDS_TORCH` create the canary when they are loaded."""
    code = script(canary)
    modern = pickle.dumps(Runs(exec, code), protocol=4)
    hidden_name = b"\x80\x04\x8c\x08builtins\x94\x8c\x04exec\x94h\x00h\x01\x93\x8c" + _short(code) + b"\x85R."
    return {
        "protocol 2": pickle.dumps(Runs(exec, code), protocol=2),
        "protocol 3": pickle.dumps(Runs(exec, code), protocol=3),
        "protocol 4": modern,
        "protocol 5": pickle.dumps(Runs(exec, code), protocol=5),
        "protocol 0": pickle.dumps(Runs(exec, code), protocol=0),
        "protocol 1": pickle.dumps(Runs(exec, code), protocol=1),
        "by hand, in text": by_hand("builtins", "exec", code),
        "eval of builtins alone": by_hand("builtins", "eval", f"exec({code!r})"),
        "an alias of a module that lists leave out": by_hand("cProfile", "run", code),
        "a debugger's module": by_hand("bdb", "Bdb", "x")[:-1] + b"0" + by_hand("builtins", "exec", code),
        "a pickle in a pickle": pickle.dumps(Runs(pickle.loads, modern), protocol=4),
        "a name from the memo": hidden_name,
        "something harmless before it": b"N0" + by_hand("builtins", "exec", code),
        "a marked list before it": b"(lp0\n0" + by_hand("builtins", "exec", code),
        "something after its end": modern + b"\0" * 64,
        "an instance by INST": b"(S" + repr(code).encode() + b"\nibuiltins\nexec\n.",
        "no end": pickle.dumps(Runs(exec, code), protocol=2)[:-1],  # what runs before it is missed has run
        "no end, in text": by_hand("builtins", "exec", code)[:-1],
        "torch's own helper": by_hand("torch.utils.collect_env", "run", f'python -c "{code}"'),
        "torch.save": torch_zip(modern),
        "torch.save with odd flags": torch_zip(modern, flags=True),
        "torch.save with a false checksum": torch_zip(modern, checksum=True),
        "torch.save, old": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + modern,
        "numpy of objects": numpy_of(modern),
        "a tar of a pickle": tar_of(modern),
    }


# Made for loaders other than `pickle.loads`: whether they would run is not tried.
OTHER_LOADERS = {
    "torch's own helper", "torch.save", "torch.save with odd flags", "torch.save with a false checksum",
    "torch.save, old", "numpy of objects", "a tar of a pickle",
}  # fmt: skip


def _short(text: str) -> bytes:
    return struct.pack("<B", len(text.encode())) + text.encode()


def torch_zip(content: bytes, *, flags: bool = False, checksum: bool = False) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
    made = bytearray(file.getvalue())
    if flags:  # "encrypted", which makes scanners give up while torch reads on
        for at in _entries(made):
            made[at + 8] |= 1
    if checksum:
        for at in _entries(made):
            made[at + 16] ^= 0xFF
    return bytes(made)


def _entries(archive: bytearray) -> list[int]:
    found, at = [], archive.find(b"PK\x01\x02")
    while at >= 0:
        found.append(at)
        at = archive.find(b"PK\x01\x02", at + 4)
    return found


def numpy_of(content: bytes) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([1], dtype=object), allow_pickle=True)
    head = file.getvalue()
    return head[: head.index(b"\n") + 1] + content


def tar_of(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in ("pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()
