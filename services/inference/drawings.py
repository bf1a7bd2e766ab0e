"""Text-to-image pipelines in values: what one can draw, what is asked of it, and what comes of it."""

from __future__ import annotations

import io
from dataclasses import dataclass

MAX_STEPS = 150
DEFAULT_STEPS = 50  # diffusers' own defaults
DEFAULT_GUIDANCE = 7.5


@dataclass(frozen=True, slots=True)
class Canvas:
    """What a pipeline can draw. Sides in pixels: multiples of `unit`, from `least` to `most`; `native`: both sides of
    what it was trained on. Steps of denoising: from `fewest_steps` to `most_steps`. `prompt_tokens`: of a text, at
    most, its two marks included."""

    native: int
    unit: int
    least: int
    most: int
    fewest_steps: int
    most_steps: int
    prompt_tokens: int

    @property
    def usual_steps(self) -> int:
        return max(self.fewest_steps, min(DEFAULT_STEPS, self.most_steps))

    def refuses(self, side: int) -> str:
        """What is wrong with a side; empty: nothing."""
        if self.least <= side <= self.most and side % self.unit == 0:
            return ""
        return f"a side has {side} pixels: it must be a multiple of {self.unit} from {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class Drawing:
    """One picture that is asked for. The same values give the same picture. `guidance_scale`: how much the prompt
    counts (Ho and Salimans 2022, with diffusers' 1 for "as trained")."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int


@dataclass(frozen=True, slots=True)
class Picture:
    """`rgb`: a byte for each of red, green and blue, row by row. `seconds`: from its first step to its last pixel."""

    width: int
    height: int
    rgb: bytes
    seconds: float

    def encoded(self, file_format: str, quality: int) -> bytes:
        """As a file: "png", "jpeg" or "webp". `quality`: 0 to 100, of those that lose something; webp loses nothing
        with 100."""
        from PIL import Image

        image, out = Image.frombytes("RGB", (self.width, self.height), self.rgb), io.BytesIO()
        if file_format == "png":
            image.save(out, "PNG")
        elif file_format == "jpeg":
            image.save(out, "JPEG", quality=quality)
        else:
            image.save(out, "WEBP", quality=quality, lossless=quality == MAX_QUALITY)
        return out.getvalue()


MAX_QUALITY = 100
