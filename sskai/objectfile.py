"""An object as a file that can be read at any place, for readers that seek. Blocks."""

from __future__ import annotations

import io
from typing import IO, cast

from sskai.objects import Objects

BUFFER_BYTES = 4 * 1024 * 1024  # of one request, and in memory


class _Ranges(io.RawIOBase):
    def __init__(self, objects: Objects, key: str, size_bytes: int) -> None:
        self._objects = objects
        self._key = key
        self._size = size_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        end = min(self._at + len(buffer), self._size)
        data = self._objects.get_range(self._key, self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def open_object(objects: Objects, key: str) -> IO[bytes]:
    """Raises NotFoundError, ObjectsUnavailableError; so does every read."""
    return cast(IO[bytes], io.BufferedReader(_Ranges(objects, key, objects.size(key)), BUFFER_BYTES))
