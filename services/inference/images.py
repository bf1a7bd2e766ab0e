"""OpenAI's shapes of `/v1/images/generations`: what a request may say, and what an answer looks like. Pure.

Fields are treated as `openai.py` treats those of texts. Beside OpenAI's there are diffusers' own, by diffusers' names.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.inference.drawings import DEFAULT_GUIDANCE, MAX_QUALITY, Canvas, Drawing
from services.inference.openai import Refusal

MAX_PICTURES = 4
MAX_PROMPT_CHARACTERS = 32_000  # OpenAI's; a pipeline's own limit is in tokens
MAX_GUIDANCE = 30
SEEDS = 2**32  # what is drawn where none is given; so many can be read aloud
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
Prompt = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]


class ImageRequest(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    model: str = Field(min_length=1, max_length=256)
    prompt: Annotated[Prompt, Field(min_length=1)]
    n: int | None = Field(default=None, ge=1, le=MAX_PICTURES)
    size: str | None = Field(default=None, max_length=20)
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: int | None = Field(default=None, ge=0, le=MAX_QUALITY)

    # That of the first picture; they count upwards.
    seed: int | None = Field(default=None, ge=0, lt=2**63 - MAX_PICTURES)
    num_inference_steps: int | None = Field(default=None, ge=1)
    guidance_scale: float | None = Field(default=None, ge=0, le=MAX_GUIDANCE)
    negative_prompt: Prompt | None = None

    background: Literal["auto", "opaque"] | None = None
    quality: Literal["auto", "standard"] | None = None
    moderation: Literal["auto", "low"] | None = None  # nothing is moderated
    partial_images: Literal[0] | None = None
    stream: Literal[False] | None = None
    style: None = None

    user: str | None = None

    @model_validator(mode="after")
    def _quality_of_what_has_one(self) -> Self:
        if self.output_compression not in (None, MAX_QUALITY) and self.file_format == "png":
            raise ValueError("output_compression goes with the output_format jpeg or webp")
        return self

    @property
    def copies(self) -> int:
        return self.n or 1

    @property
    def file_format(self) -> str:
        return self.output_format or "png"

    @property
    def file_quality(self) -> int:
        return MAX_QUALITY if self.output_compression is None else self.output_compression

    def check(self) -> None:
        """Raises Refusal for what no pipeline can do."""
        if self.response_format == "url":
            message = "response_format: url is not served, as no picture is kept: ask for b64_json"
            raise Refusal(400, message, param="response_format")
        self._sides()

    def _sides(self) -> tuple[int, int] | None:
        """Width and height; None: the pipeline's own. Raises Refusal."""
        if self.size in (None, "auto"):
            return None
        match = _SIZE.fullmatch(self.size or "")
        if match is None:
            raise Refusal(400, f"size: {self.size!r} is no size: write 512x512, width first, or auto", param="size")
        return int(match[1]), int(match[2])

    def drawing(self, canvas: Canvas, drawn_seed: int) -> Drawing:
        """What is asked of this pipeline; `drawn_seed`: for a request without one. Raises Refusal."""
        width, height = self._sides() or (canvas.native, canvas.native)
        for side in (width, height):
            if wrong := canvas.refuses(side):
                raise Refusal(400, f"size: {wrong}, and this model's own size is {canvas.native}", param="size")
        steps = canvas.usual_steps if self.num_inference_steps is None else self.num_inference_steps
        if not canvas.fewest_steps <= steps <= canvas.most_steps:
            limits = f"from {canvas.fewest_steps} to {canvas.most_steps}"
            message = f"num_inference_steps: is {steps}: this model takes {limits}"
            raise Refusal(400, message, param="num_inference_steps")
        return Drawing(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt or "",
            width=width,
            height=height,
            steps=steps,
            guidance_scale=DEFAULT_GUIDANCE if self.guidance_scale is None else self.guidance_scale,
            seed=drawn_seed if self.seed is None else self.seed,
        )


def check_tokens(field: str, tokens: int, canvas: Canvas) -> None:
    """Raises Refusal for a text that a pipeline would cut."""
    if tokens > canvas.prompt_tokens:
        message = f"{field} has {tokens} tokens, its two marks included; this model reads {canvas.prompt_tokens}"
        raise Refusal(400, f"{message}: shorten it", param=field, code="context_length_exceeded")


def answer(
    asked: ImageRequest, drawing: Drawing, files: Sequence[bytes], *, created: int, input_tokens: int
) -> dict[str, Any]:
    """OpenAI's, and each picture's `seed`. What comes out has no tokens."""
    return {
        "created": created,
        "data": [
            {"b64_json": b64encode(file).decode(), "seed": drawing.seed + place} for place, file in enumerate(files)
        ],
        "background": "opaque",
        "output_format": asked.file_format,
        "size": f"{drawing.width}x{drawing.height}",
        "usage": {
            "input_tokens": input_tokens,
            "input_tokens_details": {"text_tokens": input_tokens, "image_tokens": 0},
            "output_tokens": 0,
            "total_tokens": input_tokens,
        },
    }
