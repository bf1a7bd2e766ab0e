"""Pictures from the service: events in, weights from the object store, asked for by the official `openai` client."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from PIL import Image
from prometheus_client import REGISTRY

from services.inference import api, loops
from services.inference.answering import Desk
from services.inference.artifacts import Artifacts
from services.inference.handlers import HANDLERS
from services.inference.loops import World
from services.inference.replicas import Replicas
from services.inference.runner import Limits
from services.inference.shadows import Shadows
from services.inference.store import Store
from services.inference.tally import Tally
from services.inference.transformers_engine import TransformersEngine
from sskai import telemetry
from sskai.objects import Objects
from sskai.testing import fresh_database, handle, wait_for
from tests.gateway.conftest import serving
from tests.inference.artefacts import Published
from tests.inference.test_loops import deletion, new_world, requested

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUICK: dict[str, Any] = {"prompt": "a cat", "extra_body": {"seed": 3, "num_inference_steps": 3}}
SLOW: dict[str, Any] = {"prompt": "a cat", "size": "64x64", "n": 4, "extra_body": {"num_inference_steps": 150}}


@dataclass(frozen=True)
class Running:
    """The service's application on a real socket, without a broker."""

    world: World
    engine: TransformersEngine
    openai: AsyncOpenAI

    def client(self) -> AsyncOpenAI:
        return self.openai


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(
    postgres: str,
    objects: Objects,
    models_dir: Path,
    uploaded: str,
    published_pictures: dict[str, Published],
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Running]:
    """Endpoints of one tenant: a language model, the pipeline, and an adapter each for `stripes` and `dots`."""
    engine = TransformersEngine(
        limits=Limits(4, 4, 32), max_context_tokens=400, threads=1, device="cpu", max_waiting_pictures=3
    )
    artifacts = Artifacts(objects, models_dir, tmp_path_factory.mktemp("cache"), 10**9)
    async with fresh_database(postgres, "inference") as database:
        world = new_world(database, engine, artifacts)
        asked = [requested("base"), requested("painter", base_uri=uploaded)]
        for name, artefact in published_pictures.items():
            version = {"model_id": f"model_{name}", "version": 1, "artifact_uri": artefact.uri, "kind": "serverless"}
            asked.append(requested(name, base_uri=uploaded, sample_rate=1.0, **version))
        for event in asked:
            await handle(HANDLERS, database, Store, event)
        await loops.settle_endpoints(world)
        tally = Tally(world.router.rollout_of, 100)
        shadows = Shadows(world.router, world.fleet, tally)
        desk = Desk(world.router, world.fleet, world.samples, 5, 8, tally=tally, shadows=shadows)
        app = api.build(desk, database, "secret", Replicas(database))
        headers = {"X-SSKAI-Internal": "secret", "X-SSKAI-Tenant": "tenant_a"}
        async with (
            serving(app) as url,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="x", default_headers=headers, max_retries=0) as client,
        ):
            turning = asyncio.create_task(_turn(world))
            yield Running(world, engine, client)
            turning.cancel()


async def _turn(world: World) -> None:
    """The loops that the service's process would run."""
    while True:
        await loops.read_routes(world)
        await loops.keep_loaded(world)
        await world.fleet.wait_for_change(0.1)


def metric(name: str) -> float:
    """The sum of a metric over its labels."""
    return sum(one.value for family in REGISTRY.collect() for one in family.samples if one.name == name)


async def idle(service: Running) -> None:
    await wait_for(lambda: service.engine.occupancy().active + service.engine.occupancy().waiting == 0)


async def busy(service: Running) -> None:
    await wait_for(lambda: service.engine.occupancy().active > 0)


async def draw(service: Running, model: str, **changes: Any) -> list[bytes]:
    answer = await service.client().images.generate(model=model, **{**QUICK, **changes})
    assert answer.data is not None
    return [base64.b64decode(one.b64_json or "") for one in answer.data]


async def test_pictures_of_base_and_adapters_differ_and_a_seed_repeats_them(service: Running) -> None:
    names = ["painter", "stripes", "dots"]
    alone = {name: await draw(service, name) for name in names}
    assert len({one[0] for one in alone.values()}) == 3
    together = await asyncio.gather(*(draw(service, name) for name in names))
    assert together == [alone[name] for name in names]
    image = Image.open(io.BytesIO(alone["stripes"][0]))
    assert (image.format, image.size) == ("PNG", (32, 32))


async def test_what_an_answer_tells(service: Running) -> None:
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
    service: Running, changes: dict[str, Any], param: str, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await service.client().images.generate(**{"model": "painter", **QUICK, **changes})
    assert (caught.value.param, caught.value.code) == (param, code)


async def test_whom_one_asks_for_what(service: Running) -> None:
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


async def test_a_client_that_stops_waiting_frees_its_place(service: Running) -> None:
    await idle(service)
    before = metric("sskai_inference_images_total")
    asking = asyncio.create_task(service.client().images.generate(model="stripes", **SLOW))
    await busy(service)
    asking.cancel()
    await idle(service)
    assert metric("sskai_inference_images_total") == before, "none of the four was drawn to its end"


async def test_more_pictures_than_may_wait_get_429_with_retry_after(service: Running) -> None:
    await idle(service)
    asking = asyncio.create_task(service.client().images.generate(model="painter", **SLOW))
    await busy(service)
    with pytest.raises(openai.RateLimitError) as caught:
        await service.client().images.generate(model="stripes", **SLOW)
    assert caught.value.code == "queue_full"
    assert int(caught.value.response.headers["retry-after"]) >= 1
    asking.cancel()
    await idle(service)


async def test_figures_are_counted(service: Running) -> None:
    names = ("requests", "images", "tokens")
    before = [metric(f"sskai_inference_{name}_total") for name in names]
    seconds = metric("sskai_inference_image_seconds_count")
    await draw(service, "dots", n=2)
    after = [metric(f"sskai_inference_{name}_total") for name in names]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 2, 6]
    assert metric("sskai_inference_image_seconds_count") == seconds + 2


async def test_the_span_tells_what_was_drawn(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", lambda: provider.get_tracer("test"))
    await draw(service, "dots", n=2)
    (span,) = exporter.get_finished_spans()
    assert span.name == "image_generation dots"
    told = dict(span.attributes or {})
    assert told.pop("sskai.queue_seconds") >= 0  # type: ignore[operator]
    assert str(told.pop("gen_ai.response.id")).startswith("image")
    assert told == {
        "gen_ai.operation.name": "image_generation",
        "gen_ai.output.type": "image",
        "gen_ai.provider.name": "sskai",
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.model": "dots",
        "gen_ai.request.seed": 3,
        "gen_ai.response.model": "dots",
        "gen_ai.usage.input_tokens": 6,
        "gen_ai.usage.output_tokens": 0,
        "sskai.endpoint": "end_dots",
        "sskai.image.height": 32,
        "sskai.image.steps": 3,
        "sskai.image.width": 32,
        "sskai.model": "model_dots",
        "sskai.model.version": 1,
        "sskai.tenant": "tenant_a",
    }
    assert await service.world.samples.tell(service.world.database) == 0, "pictures are not sampled"


async def test_one_that_sleeps_is_loaded_again_and_deleted_ones_are_gone(service: Running) -> None:
    said = await draw(service, "stripes")
    (stripes,) = [one for one in service.world.router.endpoints("tenant_a") if one.name == "stripes"]
    await service.world.fleet.unload(stripes.endpoint_id)
    assert await draw(service, "stripes") == said
    for name in ("painter", "stripes", "dots"):
        await handle(HANDLERS, service.world.database, Store, deletion(name))
    await loops.settle_endpoints(service.world)
    assert service.world.fleet.endpoint_ids == {"end_base"}
    assert service.engine._studios == {}
