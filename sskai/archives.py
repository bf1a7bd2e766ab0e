"""Zip files from outside: checked before anything is unpacked, and unpacked so that nothing lands beside the folder.

Declared sizes may be believed once they are summed: zipfile reads no entry beyond its declared size, and a checksum
that differs is an error. The format: APPNOTE.TXT of PKWARE, sections 4.3.7 to 4.3.16.
"""

from __future__ import annotations

import pickletools
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO

MIB = 1024**2
GIB = 1024**3
CHUNK_BYTES = 1024 * 1024
MAX_NAME_LENGTH = 200
MAX_DEPTH = 16
NAMED_ALIKE_LENGTH = 80  # of a name in an error

_END, _END_BYTES = b"PK\x05\x06", 22
_END_64, _LOCATOR_64, _LOCATOR_64_BYTES = b"PK\x06\x06", b"PK\x06\x07", 20
_ENTRY = b"PK\x01\x02"
_ENTRY_BYTES = 46  # of the central directory, before name, extra field and comment
_ZIPS = (b"PK\x03\x04", _END, b"PK\x07\x08")
_PICKLES = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
_TAR, _TAR_AT = b"ustar", 257
_NUMPY = b"\x93NUMPY"
# Operations of a pickle that import something. Without one it can only make plain values.
_IMPORTS = {"GLOBAL", "STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"}
# Those that call what was imported.
_CALLS = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}
MAX_OPERATIONS = 100_000
# What zipfile raises for archives that are broken, by chance or on purpose.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError)


class ArchiveError(ValueError):
    """The archive is not accepted; the text names the file in it, and says why and what to do."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ArchiveLimits:
    """Files named `*.safetensors` are weights: they count against `weight_bytes`, all others against `code_bytes`."""

    entries: int = 1_000
    code_bytes: int = 64 * MIB
    weight_bytes: int = 2 * GIB
    ratio: int = 100  # of what comes out to what lies in the archive


LIMITS = ArchiveLimits()


def check(file: BinaryIO, limits: ArchiveLimits = LIMITS) -> dict[str, int]:
    """Names of the files in an archive, with their bytes; every one was read to its end. Raises ArchiveError."""
    with _opened(file, limits) as archive:
        entries = _entries(archive, _size(file), limits)
        for entry in entries:
            _check_content(archive, entry)
    return {entry.filename: entry.file_size for entry in entries}


def unpack(file: BinaryIO, folder: Path, limits: ArchiveLimits = LIMITS) -> None:
    """Into an empty folder, readable for everybody and executable for nobody. Raises ArchiveError."""
    with _opened(file, limits) as archive:
        for entry in _entries(archive, _size(file), limits):
            target = folder / entry.filename
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            with target.open("xb") as out:
                for piece in _pieces(archive, entry):
                    out.write(piece)
            target.chmod(0o644)
    for place in (folder, *folder.rglob("*")):
        if place.is_dir():
            place.chmod(0o755)


@contextmanager
def opened(file: BinaryIO, name: str) -> Iterator[IO[bytes]]:
    """One file of an archive that was checked, to read and to seek in."""
    with zipfile.ZipFile(file) as archive, archive.open(name) as stream:
        yield stream


def read(file: BinaryIO, name: str, limit_bytes: int) -> bytes:
    """One small file of an archive that was checked. Raises ArchiveError."""
    with opened(file, name) as stream:
        content = stream.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise ArchiveError(name, f"more than {limit_bytes} bytes, which is the limit for such a file")
    return content


def _opened(file: BinaryIO, limits: ArchiveLimits) -> zipfile.ZipFile:
    try:
        _check_list(file, limits)
        return zipfile.ZipFile(file)
    except ArchiveError:
        raise
    except _UNREADABLE as error:
        raise ArchiveError("archive", f"not a zip file that can be read: {error}") from error


def _check_list(file: BinaryIO, limits: ArchiveLimits) -> None:
    """zipfile reads the whole list of entries at once: its size is looked at first."""
    count, list_bytes, list_end = _end_of(file)
    too_long = list_bytes > limits.entries * (_ENTRY_BYTES + 4 * MAX_NAME_LENGTH)
    # What it says of their number is nobody's but its maker's word.
    if count > limits.entries or too_long or _listed(file, list_end - list_bytes, list_end) > limits.entries:
        raise ArchiveError("archive", f"more than {limits.entries} entries: leave out what the model does not need")


def _listed(file: BinaryIO, start: int, end: int) -> int:
    """How often an entry begins between two places."""
    file.seek(max(start, 0))
    found, rest = 0, b""
    while (left := end - file.tell()) > 0 and (piece := file.read(min(left, CHUNK_BYTES))):
        found += (rest + piece).count(_ENTRY)
        rest = piece[-len(_ENTRY) + 1 :]
    return found


def _end_of(file: BinaryIO) -> tuple[int, int, int]:
    """How many entries the archive says it has, how long their list is, and where it ends."""
    size = _size(file)
    file.seek(max(0, size - _END_BYTES - 65_535))
    tail = file.read()
    at = len(tail) - _END_BYTES
    # As zipfile looks for it: at the very end, else the last one before a comment.
    if not (tail[at : at + 4] == _END and tail.endswith(b"\0\0")):
        at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise ValueError("the list of its entries is missing")
    count, length = int.from_bytes(tail[at + 10 : at + 12], "little"), int.from_bytes(tail[at + 12 : at + 16], "little")
    locator = tail[max(at - _LOCATOR_64_BYTES, 0) : at]
    if not locator.startswith(_LOCATOR_64):
        return count, length, size - len(tail) + at
    # zipfile takes the record that stands right before its locator, wherever the locator points.
    place = max(0, size - len(tail) + at - _LOCATOR_64_BYTES - 56)
    file.seek(place)
    record = file.read(56)
    if not record.startswith(_END_64):
        raise ValueError("its zip64 record is missing")
    return int.from_bytes(record[32:40], "little"), int.from_bytes(record[40:48], "little"), place


def _entries(archive: zipfile.ZipFile, archive_bytes: int, limits: ArchiveLimits) -> list[zipfile.ZipInfo]:
    """The files of an archive, if all that it declares is acceptable."""
    listed = archive.infolist()
    if len(listed) > limits.entries:
        raise ArchiveError("archive", f"{len(listed)} entries; the limit is {limits.entries}")
    for entry in listed:
        _check_entry(entry, limits)
    files = [entry for entry in listed if not entry.is_dir()]
    folders = {str(above) for entry in files for above in Path(entry.filename).parents}
    names: set[str] = set()
    for entry in files:
        # Some file systems do not tell large letters from small ones.
        if entry.filename.lower() in names or entry.filename in folders:
            raise ArchiveError(_shown(entry), "is in the archive twice, or as a file and a folder")
        names.add(entry.filename.lower())
    weights = sum(entry.file_size for entry in files if _is_weights(entry))
    code = sum(entry.file_size for entry in files) - weights
    for what, size, limit in (
        ("of code and data", code, limits.code_bytes),
        ("of weights", weights, limits.weight_bytes),
    ):
        if size > limit:
            raise ArchiveError("archive", f"unpacks to {size} bytes {what}; the limit is {limit}")
    # Against the archive's own size: entries that share their compressed bytes do not look better by it.
    if code + weights > limits.ratio * archive_bytes:
        raise ArchiveError("archive", f"unpacks to more than {limits.ratio} times its size: it looks like a zip bomb")
    return files


def _check_entry(entry: zipfile.ZipInfo, limits: ArchiveLimits) -> None:
    name, kind = entry.orig_filename, stat.S_IFMT(entry.external_attr >> 16)
    parts = name.rstrip("/").split("/")
    if not name or len(name) > MAX_NAME_LENGTH or len(parts) > MAX_DEPTH or not name.isprintable():
        reason = f"a name of at most {MAX_NAME_LENGTH} printable characters and {MAX_DEPTH} folders is needed"
    elif name.startswith("/") or "\\" in name or ":" in name:
        reason = "the name is not relative to the archive: zip the files from within their folder"
    elif any(part in ("", ".", "..") for part in parts):
        reason = "the name leads out of the archive, or is not plain: write it without '.', '..' and '//'"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR) or (kind == stat.S_IFDIR) > name.endswith("/"):
        reason = "a link or a device: only files and folders are taken"
    elif entry.flag_bits & 0x1:
        reason = "is encrypted: zip it without a password"
    elif entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        reason = "an unusual compression: use deflate, or none"
    elif entry.file_size > limits.ratio * max(entry.compress_size, 1):
        reason = f"unpacks to more than {limits.ratio} times its size: it looks like a zip bomb"
    else:
        return
    raise ArchiveError(_shown(entry), reason)


def _check_content(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Read the whole entry, so that its checksum holds, and refuse what is something else inside."""
    for _ in _pieces(archive, entry):
        pass
    with archive.open(entry) as stream:
        head = stream.read(512)
        if head[_TAR_AT:].startswith(_TAR):
            raise ArchiveError(_shown(entry), "a tar inside the zip: put its files into the zip themselves")
        if head.startswith(_ZIPS):
            raise ArchiveError(
                _shown(entry),
                "a zip inside the zip (torch.save and np.savez write such files, with pickles in them): "
                "save arrays with np.save, weights as weights.safetensors",
            )
        stream.seek(0)
        # What is imported as source can be no pickle.
        if not entry.filename.endswith(".py") and is_pickle(stream):
            raise ArchiveError(
                _shown(entry),
                "this is a pickle, which can run code: save arrays with np.save, weights as weights.safetensors",
            )


def is_pickle(stream: IO[bytes]) -> bool:
    """Whether a file would run code when it is unpickled, whatever its name. Reads it, and never runs anything."""
    head = stream.read(1024)
    if head.startswith(_PICKLES):
        return True
    if head.startswith(_NUMPY):
        return b"|O" in head  # an array of objects
    # Protocols 0 and 1 have no mark at the start: they are pickles if they read as one to the end.
    stream.seek(0)
    imports, stack = False, _Stack()
    try:
        for count, (operation, _, _) in enumerate(pickletools.genops(stream)):
            stack.take(operation)
            imports = imports or operation.name in _IMPORTS
            # Whatever comes after a call, also an error, comes too late.
            if count >= MAX_OPERATIONS or (imports and operation.name in _CALLS):
                return True
    except Exception:  # it is something else
        return False
    return imports


class _Stack:
    """How many things an unpickler would hold: many texts begin like a pickle, and soon ask for what is not there."""

    def __init__(self) -> None:
        self._held: list[object] = []

    def take(self, operation: pickletools.OpcodeInfo) -> None:
        """Raises ValueError: no unpickler would come past this operation."""
        needed = list(operation.stack_before)
        if pickletools.markobject in needed:
            while self._pop() is not pickletools.markobject:
                pass
            needed = needed[: needed.index(pickletools.markobject)]
        for _ in needed:
            self._pop()
        self._held += operation.stack_after

    def _pop(self) -> object:
        if not self._held:
            raise ValueError("nothing is held any more")
        return self._held.pop()


def _pieces(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(entry) as stream:
            while piece := stream.read(CHUNK_BYTES):
                yield piece
    except _UNREADABLE as error:
        raise ArchiveError(_shown(entry), f"cannot be read from the archive: {error}") from error


def _size(file: BinaryIO) -> int:
    return file.seek(0, 2)


def _is_weights(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.endswith(".safetensors")


def _shown(entry: zipfile.ZipInfo) -> str:
    """A name from outside, fit for an error."""
    name = entry.orig_filename
    return name if name.isprintable() and len(name) <= NAMED_ALIKE_LENGTH else ascii(name)[:NAMED_ALIKE_LENGTH]
