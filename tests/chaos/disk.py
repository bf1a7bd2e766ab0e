"""A disk that can be full: a tmpfs of its own, made as small as what lies on it, and large again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

BYTES = 16 * 1024**3  # a limit, not a reservation: the object store makes room for volumes by what it finds
PAGE_BYTES = 4096


class Disk:
    """Mounted at `folder` if that may be done; else `why_not` says why there are no full disks in this run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.why_not = _mount("-t", "tmpfs", "-o", f"size={BYTES},mode=700", "tmpfs", str(folder))

    @property
    def mounted(self) -> bool:
        return not self.why_not

    def fill(self) -> None:
        """From now on nothing more fits, but into pages that were begun."""
        standing = os.statvfs(self.folder)
        used = (standing.f_blocks - standing.f_bfree) * standing.f_frsize
        self._resize(max(used, PAGE_BYTES))

    def make_room(self) -> None:
        self._resize(BYTES)

    def remove(self) -> None:
        if self.mounted:
            # Lazily: a process that is about to end may still hold a file.
            subprocess.run(["umount", "-l", str(self.folder)], check=False, capture_output=True)

    def _resize(self, size: int) -> None:
        why_not = _mount("-o", f"remount,size={size}", str(self.folder))
        if why_not:
            raise RuntimeError(f"the disk cannot be resized: {why_not}")


def _mount(*arguments: str) -> str:
    """Empty, or why it cannot be done."""
    try:
        done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else (done.stderr.strip() or f"mount ended with {done.returncode}")
