"""What a request for pictures may say, by tables; what a picture is as a file."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.inference import images, openai
from services.inference.drawings import Canvas, Drawing, Picture
from services.inference.images import ImageRequest
from services.inference.openai import Refusal

CANVAS = Canvas(native=512, unit=8, least=64, most=1024, fewest_steps=2, most_steps=150, prompt_tokens=77)


def asked(**changes: Any) -> ImageRequest:
    return openai.parse(ImageRequest, json.dumps({"model": "painter", "prompt": "a cat", **changes}).encode())


def checked(**changes: Any) -> Drawing:
    request = asked(**changes)
    request.check()
    return request.drawing(CANVAS, 0)


def refusal(**changes: Any) -> dict[str, Any]:
    with pytest.raises(Refusal) as caught:
        checked(**changes)
    assert caught.value.status == 400
    error: dict[str, Any] = caught.value.body["error"]
    return error


def test_what_is_not_said_is_the_pipelines_own() -> None:
    assert asked().drawing(CANVAS, 7) == Drawing("a cat", "", 512, 512, 50, 7.5, 7)
    assert asked(size="auto").drawing(CANVAS, 7) == asked().drawing(CANVAS, 7)
    few = Canvas(32, 8, 8, 64, 1, 20, 16)
    assert asked().drawing(few, 0).steps == 20


def test_what_is_said_counts() -> None:
    said = asked(
        size="768x64", seed=0, num_inference_steps=2, guidance_scale=0, negative_prompt="a dog", n=4, user="ann"
    )
    said.check()
    assert said.drawing(CANVAS, 7) == Drawing("a cat", "a dog", 768, 64, 2, 0.0, 0)
    assert said.copies == 4


@pytest.mark.parametrize(
    ("changes", "param", "says"),
    [
        ({"response_format": "url"}, "response_format", "ask for b64_json"),
        ({"response_format": "file"}, "response_format", "b64_json"),
        ({"output_format": "gif"}, "output_format", "png"),
        ({"output_compression": 50}, None, "jpeg or webp"),
        ({"output_compression": 101, "output_format": "webp"}, "output_compression", "100"),
        ({"prompt": ""}, "prompt", "at least 1"),
        ({"prompt": "x" * 32_001}, "prompt", "at most 32000"),
        ({"prompt": 7}, "prompt", "string"),
        ({"n": 0}, "n", "greater"),
        ({"n": 5}, "n", "less than or equal to 4"),
        ({"size": "512"}, "size", "width first"),
        ({"size": "512X512"}, "size", "width first"),
        ({"size": "0x512"}, "size", "width first"),
        ({"size": "512x516"}, "size", "multiple of 8 from 64 to 1024"),
        ({"size": "56x512"}, "size", "multiple of 8 from 64 to 1024"),
        ({"size": "512x1032"}, "size", "own size is 512"),
        ({"seed": -1}, "seed", "greater"),
        ({"seed": 2**63}, "seed", "less"),
        ({"num_inference_steps": 1}, "num_inference_steps", "from 2 to 150"),
        ({"num_inference_steps": 151}, "num_inference_steps", "from 2 to 150"),
        ({"guidance_scale": 31}, "guidance_scale", "30"),
        ({"stream": True}, "stream", "False"),
        ({"background": "transparent"}, "background", "opaque"),
        ({"quality": "hd"}, "quality", "standard"),
        ({"style": "vivid"}, "style", "style"),
        ({"steps": 3}, "steps", "Unrecognized"),
    ],
)
def test_what_is_refused_names_its_field(changes: dict[str, Any], param: str | None, says: str) -> None:
    error = refusal(**changes)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")
    assert says in error["message"]


@given(width=st.integers(1, 99_999), height=st.integers(1, 99_999))
def test_a_size_is_drawn_as_it_is_or_refused(width: int, height: int) -> None:
    fits = all(side % 8 == 0 and 64 <= side <= 1024 for side in (width, height))
    if fits:
        drawing = checked(size=f"{width}x{height}")
        assert (drawing.width, drawing.height) == (width, height)
    else:
        assert refusal(size=f"{width}x{height}")["param"] == "size"


def test_a_text_that_would_be_cut_is_refused() -> None:
    images.check_tokens("prompt", 77, CANVAS)
    with pytest.raises(Refusal) as caught:
        images.check_tokens("negative_prompt", 78, CANVAS)
    error = caught.value.body["error"]
    assert (error["param"], error["code"]) == ("negative_prompt", "context_length_exceeded")
    assert "78" in str(error["message"])
    assert "77" in str(error["message"])


PICTURE = Picture(3, 2, bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30, 40, 50, 60, 70, 80, 90]), 0.1)


@pytest.mark.parametrize(("file_format", "lossless"), [("png", True), ("webp", True), ("jpeg", False)])
def test_a_picture_as_a_file(file_format: str, lossless: bool) -> None:
    image = Image.open(io.BytesIO(PICTURE.encoded(file_format, 100)))
    assert (image.format, image.size) == (file_format.upper(), (3, 2))
    if lossless:
        assert image.convert("RGB").tobytes() == PICTURE.rgb


@pytest.mark.parametrize("file_format", ["jpeg", "webp"])
def test_quality_is_paid_in_bytes(file_format: str) -> None:
    noise = Picture(64, 64, bytes((7 * place * place) % 251 for place in range(64 * 64 * 3)), 0.1)
    assert len(noise.encoded(file_format, 20)) < len(noise.encoded(file_format, 90))


def test_the_answer_tells_each_pictures_seed() -> None:
    request = asked(n=2, seed=5, output_format="webp")
    body = images.answer(request, request.drawing(CANVAS, 0), [b"one", b"two"], created=1, input_tokens=4)
    assert [(base64.b64decode(one["b64_json"]), one["seed"]) for one in body["data"]] == [(b"one", 5), (b"two", 6)]
    assert (body["size"], body["output_format"], body["usage"]["input_tokens"]) == ("512x512", "webp", 4)
