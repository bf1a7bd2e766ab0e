"""Pictures from the service as a process: weights from the object store, asked for by the official `openai` client."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from PIL import Image

from sskai.testing import wait_for
from tests.inference.artefacts import Published
from tests.inference.process import InferenceProcess

QUICK: dict[str, Any] = {"prompt": "a cat", "extra_body": {"seed": 3, "num_inference_steps": 3}}
SLOW: dict[str, Any] = {"prompt": "a cat", "size": "64x64", "n": 4, "extra_body": {"num_inference_steps": 150}}


@pytest.fixture
async def service(
    process: InferenceProcess, uploaded: str, published_pictures: dict[str, Published]
) -> AsyncIterator[InferenceProcess]:
    """Endpoints of one tenant: the pipeline, an adapter each for `stripes` and `dots`, and a language model."""
    async with asyncio.timeout(100):
        await process.deploy("base")
        await process.deploy("painter", base_uri=uploaded)
        for name, artefact in published_pictures.items():
            await process.deploy(name, base_uri=uploaded, artifact_uri=artefact.uri, kind="serverless")
    yield process
    await process.close()


async def draw(service: InferenceProcess, model: str, **changes: Any) -> list[bytes]:
    answer = await service.client().images.generate(model=model, **{**QUICK, **changes})
    assert answer.data is not None
    return [base64.b64decode(one.b64_json or "") for one in answer.data]


async def idle(service: InferenceProcess) -> None:
    async def nobody() -> bool:
        active = await service.metric("sskai_inference_active_sequences")
        return active + await service.metric("sskai_inference_waiting_sequences") == 0

    await wait_for(nobody, limit_seconds=20)


async def busy(service: InferenceProcess) -> None:
    async def somebody() -> bool:
        return await service.metric("sskai_inference_active_sequences") > 0

    await wait_for(somebody)


async def test_pictures_of_base_and_adapters_differ_and_a_seed_repeats_them(service: InferenceProcess) -> None:
    names = ["painter", "stripes", "dots"]
    alone = {name: await draw(service, name) for name in names}
    assert len({one[0] for one in alone.values()}) == 3
    together = await asyncio.gather(*(draw(service, name) for name in names))
    assert together == [alone[name] for name in names]
    image = Image.open(io.BytesIO(alone["stripes"][0]))
    assert (image.format, image.size) == ("PNG", (32, 32))


async def test_what_an_answer_tells(service: InferenceProcess) -> None:
    answer = await service.client().images.generate(
        model="dots", n=2, size="40x24", output_format="webp", response_format="b64_json", user="ann", **QUICK
    )
    assert (answer.output_format, answer.size) == ("webp", "40x24")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (6, 0)
    assert answer.data is not None
    images = [Image.open(io.BytesIO(base64.b64decode(one.b64_json or ""))) for one in answer.data]
    assert [(image.format, image.size) for image in images] == [("WEBP", (40, 24))] * 2
    seeds = [(one.model_extra or {})["seed"] for one in answer.data]
    assert seeds == [3, 4]
    again = {**QUICK["extra_body"], "seed": seeds[1]}
    assert await draw(service, "dots", size="40x24", extra_body=again) != await draw(service, "dots", size="40x24")


@pytest.mark.parametrize(
    ("changes", "param", "code"),
    [
        ({"response_format": "url"}, "response_format", None),
        ({"size": "33x32"}, "size", None),
        ({"size": "72x32"}, "size", None),
        ({"n": 5}, "n", None),
        ({"prompt": "a very long story of a cat"}, "prompt", "context_length_exceeded"),
        ({"extra_body": {"negative_prompt": "x" * 40}}, "negative_prompt", "context_length_exceeded"),
        ({"extra_body": {"num_inference_steps": 151}}, "num_inference_steps", None),
        ({"extra_body": {"guidance_scale": -1}}, "guidance_scale", None),
        ({"extra_body": {"scheduler": "ddim"}}, "scheduler", None),
        ({"model": "base"}, "model", "not_a_pipeline"),
    ],
)
async def test_errors_have_openais_shape_and_name_the_field(
    service: InferenceProcess, changes: dict[str, Any], param: str, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await service.client().images.generate(**{"model": "painter", **QUICK, **changes})
    assert (caught.value.param, caught.value.code) == (param, code)


async def test_whom_one_asks_for_what(service: InferenceProcess) -> None:
    client = service.client()
    with pytest.raises(openai.BadRequestError, match="/v1/images/generations"):
        await client.chat.completions.create(model="stripes", messages=[{"role": "user", "content": "hello"}])
    with pytest.raises(openai.BadRequestError, match="/v1/images/generations"):
        await client.embeddings.create(model="painter", input="hello")
    with pytest.raises(openai.BadRequestError, match="/v1/chat/completions"):
        await client.images.generate(model="base", **QUICK)
    with pytest.raises(openai.NotFoundError, match="'nobody' does not exist"):
        await client.images.generate(model="nobody", **QUICK)
    listed = {one.id for one in (await client.models.list()).data}
    assert {"painter", "stripes", "dots", "base"} <= listed


async def test_a_client_that_stops_waiting_frees_its_place(service: InferenceProcess) -> None:
    await idle(service)
    before = await service.metric("sskai_inference_images_total")
    asking = asyncio.create_task(service.client().images.generate(model="stripes", **SLOW))
    await busy(service)
    asking.cancel()
    await idle(service)
    assert await service.metric("sskai_inference_images_total") == before, "none of the four was drawn to its end"


async def test_more_pictures_than_may_wait_get_429_with_retry_after(service: InferenceProcess) -> None:
    await idle(service)
    asking = asyncio.create_task(service.client().images.generate(model="painter", **SLOW))
    await busy(service)
    with pytest.raises(openai.RateLimitError) as caught:
        await service.client().images.generate(model="stripes", **SLOW)
    assert caught.value.code == "queue_full"
    assert int(caught.value.response.headers["retry-after"]) >= 1
    asking.cancel()
    await idle(service)


async def test_figures_are_counted(service: InferenceProcess) -> None:
    names = ("requests", "images", "tokens")
    before = [await service.metric(f"sskai_inference_{name}_total") for name in names]
    seconds = await service.metric("sskai_inference_image_seconds_count")
    await draw(service, "dots", n=2)
    after = [await service.metric(f"sskai_inference_{name}_total") for name in names]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 2, 6]
    assert await service.metric("sskai_inference_image_seconds_count") == seconds + 2
