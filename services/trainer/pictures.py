"""Pictures that come as a zip: with their texts in `metadata.jsonl`, or in a folder for each class.

Only a picture's head is read when a dataset is; it is decoded each time that it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.trainer.domain import TrainingFailedError
from sskai import archives
from sskai.archives import GIB, ArchiveError, ArchiveLimits

if TYPE_CHECKING:
    from PIL import Image

METADATA = "metadata.jsonl"
FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg")  # of those in class folders, as the gateway counts them
MAX_PIXELS = 50_000_000  # of one picture: 150 MB once it is decoded
LIMITS = ArchiveLimits(entries=100_000, code_bytes=16 * GIB, weight_bytes=0)


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture on this machine's disk. `number`: its row in the dataset, from 1."""

    number: int
    path: Path


@dataclass(frozen=True, slots=True)
class DescribedPicture(Picture):
    text: str


@dataclass(frozen=True, slots=True)
class LabelledPicture(Picture):
    label: int


def described(archive: Path, folder: Path) -> list[DescribedPicture]:
    """Unpack a dataset; its rows in the order of `metadata.jsonl`. Raises TrainingFailedError("dataset")."""
    _unpack(archive, folder)
    found = sorted(folder.rglob(METADATA), key=lambda path: len(path.parts))
    if not found:
        raise TrainingFailedError("dataset", f"the zip has no {METADATA} with a line of file_name and text per picture")
    root, present = found[0].parent, {path for path in folder.rglob("*") if path.is_file()}
    return [
        _described(number, line, root, present)
        for number, line in enumerate(found[0].read_bytes().splitlines(), start=1)
        if line.strip()
    ]


def in_classes(archive: Path, folder: Path, labels: Sequence[str]) -> list[LabelledPicture]:
    """Unpack a dataset; its rows in the order of their names. A picture's class is the name of the folder it lies in,
    one of `labels`. Raises TrainingFailedError("dataset")."""
    _unpack(archive, folder)
    known = {name: index for index, name in enumerate(labels)}
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    rows = []
    for number, name in enumerate((name for name in names if name.lower().endswith(SUFFIXES)), start=1):
        path = folder / name
        label = known.get(path.parent.name) if path.parent != folder else None
        if label is None:
            raise TrainingFailedError("dataset", f"row {number}: {name}: its folder is none of the dataset's classes")
        _check(number, path)
        rows.append(LabelledPicture(number, path, label))
    return rows


def decoded(picture: Picture, side: int | None = None) -> Image.Image:
    """RGB, as it is to be looked at (cameras write which side is up). `side`: a large JPEG is decoded at a fraction of
    its size, never under so many pixels a side. Raises TrainingFailedError("dataset")."""
    from PIL import Image, ImageOps

    try:
        with Image.open(picture.path, formats=FORMATS) as image:
            if side is not None:
                image.draft("RGB", (side, side))
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise TrainingFailedError("dataset", f"row {picture.number}: {picture.path.name}: {error}") from error


def named(samples: Sequence[Picture]) -> str:
    """Which rows these are, for an error that a user reads."""
    return f"rows {', '.join(str(sample.number) for sample in samples)}"


def _unpack(archive: Path, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with archive.open("rb") as file:
            archives.unpack(file, folder, LIMITS)
    except ArchiveError as error:
        raise TrainingFailedError("dataset", f"{error}") from error


def _described(number: int, line: bytes, root: Path, present: set[Path]) -> DescribedPicture:
    try:
        document = json.loads(line)
        name, text = document["file_name"], document["text"]
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingFailedError("dataset", f"row {number}: file_name and text are needed: {error!r}") from error
    if not isinstance(name, str) or not isinstance(text, str):
        raise TrainingFailedError("dataset", f"row {number}: file_name and text must be texts")
    path = root / name
    if path not in present:
        raise TrainingFailedError("dataset", f"row {number}: file_name: there is no {name!r} in the zip")
    _check(number, path)
    return DescribedPicture(number, path, text)


def _check(number: int, path: Path) -> None:
    """Whether it says that it is a picture of a size that can be decoded."""
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            pixels = image.width * image.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise TrainingFailedError("dataset", f"row {number}: {path.name}: not one of {', '.join(FORMATS)}") from error
    if pixels > MAX_PIXELS:
        raise TrainingFailedError("dataset", f"row {number}: {path.name}: {pixels} pixels, over {MAX_PIXELS}")
