"""Pictures that somebody sends: decoded one by one, within limits. What a file says of its size is looked at before any
of its pixels is."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, ImageOps

from services.inference.engine import PromptError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 25_000_000  # of one: 75 MB once it is decoded
# Files, or numbers [pictures, channels, height, width]: uint8 as of a file, float32 as the model takes them.
Pictures: TypeAlias = "Sequence[bytes] | np.ndarray[Any, Any]"


class PictureError(PromptError):
    """A picture cannot be decoded; `place`: which one."""

    def __init__(self, place: int, why: str) -> None:
        super().__init__(why)
        self.place = place


def decoded(file: bytes, place: int) -> Image.Image:
    """RGB, as it is to be looked at (cameras write which side is up). Raises PictureError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is another
            with Image.open(io.BytesIO(file), formats=FORMATS) as image:
                pixels = image.width * image.height
                if pixels > MAX_PIXELS:
                    raise PictureError(place, f"the picture has {pixels} pixels; up to {MAX_PIXELS} are taken")
                return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, MemoryError, Image.DecompressionBombError) as error:
        why = f"the picture cannot be decoded as one of {', '.join(FORMATS)}: {error}"
        raise PictureError(place, why[:300]) from error


def from_pixels(pixels: np.ndarray[Any, Any], place: int) -> Image.Image:
    """uint8 [channels, height, width], 1 or 3 channels, as RGB. Raises PictureError."""
    channels, height, width = pixels.shape
    if channels not in (1, 3):
        raise PictureError(place, f"a picture has 1 or 3 channels, not {channels}")
    if height * width > MAX_PIXELS:
        raise PictureError(place, f"the picture has {height * width} pixels; up to {MAX_PIXELS} are taken")
    rows = pixels[0] if channels == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return Image.fromarray(rows).convert("RGB")
