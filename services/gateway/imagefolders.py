"""A zip of images as a dataset: class folders, or images beside a `metadata.jsonl`, as Hugging Face's imagefolder."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO, cast

from services.gateway.datareport import Counted, Report, Summary
from services.gateway.rowforms import RejectedError
from sskai import archives
from sskai.archives import GIB, ArchiveError, ArchiveLimits

LIMITS = ArchiveLimits(entries=100_000, code_bytes=2 * GIB, weight_bytes=0)
SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 50_000_000
MAX_IMAGE_BYTES = 64 * 1024 * 1024
METADATA = "metadata.jsonl"
MAX_METADATA_BYTES = 64 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024
TEXT_COLUMNS = ("file_name", "text")


def from_zip(file: IO[bytes], spool: IO[bytes]) -> Summary:
    """Checks it and keeps it as it is. Nothing in it is run or unpickled; of an image only the header is decoded.

    Raises RejectedError; a row is a line of the metadata, or an image by its name's place.
    """
    archive = cast(BinaryIO, file)
    try:
        sizes = archives.check(archive, LIMITS)
        found = sorted(name for name in sizes if name.lower().endswith(SUFFIXES))
        metadata = [name for name in sizes if PurePosixPath(name).name == METADATA]
        if not found:
            raise RejectedError(0, "", "no PNG or JPEG image in the zip: put the images of each class in a folder")
        _check_images(archive, found, sizes)
        if metadata:
            format_name, report = "text-to-image", _described(archive, metadata, set(found))
        else:
            format_name, report = "image-classification", _in_classes(found)
    except ArchiveError as error:
        raise RejectedError(0, error.file, error.reason) from error
    sha256, size = hashlib.sha256(), 0
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        sha256.update(chunk)
        spool.write(chunk)
        size += len(chunk)
    return report.summary(format_name, size, sha256.hexdigest())


def _in_classes(names: list[str]) -> Report:
    report = Report()
    for number, name in enumerate(names, 1):
        label = PurePosixPath(name).parent.name
        if not label:
            raise RejectedError(
                number,
                name,
                f"lies in no folder: the folder's name is the class; or add a {METADATA} with file_name and text",
            )
        try:
            report.add(Counted(1, 0, name, label))
        except ValueError as error:
            raise RejectedError(number, name, str(error)) from error
    if len(report.labels) < 2:
        raise RejectedError(0, "", f"all images are in {report.labels[0]!r}: two folders are needed at least")
    return report


def _described(archive: BinaryIO, metadata: list[str], names: set[str]) -> Report:
    if len(metadata) > 1:
        raise RejectedError(0, metadata[1], f"more than one {METADATA}: keep one")
    folder, report = PurePosixPath(metadata[0]).parent, Report()
    text = archives.read(archive, metadata[0], MAX_METADATA_BYTES)
    for number, line in enumerate(io.BytesIO(text), 1):
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RejectedError(number, METADATA, f"not JSON: {error}") from error
        if not isinstance(row, dict) or not all(
            isinstance(row.get(it), str) and row[it].strip() for it in TEXT_COLUMNS
        ):
            raise RejectedError(number, METADATA, "must be an object with file_name and text, both texts")
        if str(folder / row["file_name"]) not in names:
            raise RejectedError(number, "file_name", f"{row['file_name']!r:.80} is no image in the zip")
        report.add(Counted(len(row["text"]), 0, [row["file_name"], row["text"]]))
    if not report.rows:
        raise RejectedError(0, METADATA, "has no lines: describe each image in one, with file_name and text")
    return report


def _check_images(archive: BinaryIO, names: list[str], sizes: dict[str, int]) -> None:
    """Whether each says that it is an image of a size that can be decoded."""
    import zipfile

    from PIL import Image

    with zipfile.ZipFile(archive) as opened, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for number, name in enumerate(names, 1):
            if sizes[name] > MAX_IMAGE_BYTES:
                raise RejectedError(number, name, f"{sizes[name]} bytes; the limit is {MAX_IMAGE_BYTES}")
            try:
                with Image.open(io.BytesIO(opened.read(name)), formats=("PNG", "JPEG")) as image:
                    width, height = image.size
            except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
                raise RejectedError(number, name, f"too many pixels to decode: {error}") from error
            except (OSError, SyntaxError, ValueError) as error:
                raise RejectedError(number, name, "no PNG or JPEG image, whatever its name says") from error
            if width * height > MAX_PIXELS:
                raise RejectedError(number, name, f"{width} x {height} pixels; the limit is {MAX_PIXELS}")
