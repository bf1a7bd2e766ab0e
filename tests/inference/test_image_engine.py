"""Pictures in turns: one pipeline for its adapters, a bounded queue, places that leavers free, memory that is given
back."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.inference.drawings import Drawing
from services.inference.engine import (
    EngineFailedError,
    Generation,
    NotLoadedError,
    OverloadedError,
    PromptError,
    UnusableWeightsError,
)
from services.inference.runner import Limits
from services.inference.transformers_engine import TransformersEngine
from sskai.testing import wait_for

CAT = Drawing("a cat", "", 32, 32, 3, 5.0, 11)
SLOW = Drawing("a cat", "", 64, 64, 150, 5.0, 11)
WAITING = 3


def new_engine(pipeline: Path, adapters: dict[str, Path]) -> TransformersEngine:
    made = TransformersEngine(
        limits=Limits(4, 2, 16), max_context_tokens=400, threads=1, device="cpu", max_waiting_pictures=WAITING
    )
    made.load_base("painter", pipeline)
    for name, folder in adapters.items():
        made.attach_adapter("painter", name, folder)
    return made


@pytest.fixture(scope="module")
def engine(pipeline: Path, picture_adapters: dict[str, Path]) -> Iterator[TransformersEngine]:
    made = new_engine(pipeline, picture_adapters)
    yield made
    made.close()


async def rgb(generation: Generation) -> bytes:
    async with asyncio.timeout(60):
        (piece,) = [piece async for piece in generation.pieces()]
    assert piece.picture is not None
    return piece.picture.rgb


async def draw(engine: TransformersEngine, adapter: str | None = None, drawing: Drawing = CAT) -> bytes:
    return await rgb(engine.draw("painter", adapter, drawing)[0])


async def until_idle(engine: TransformersEngine) -> None:
    await wait_for(lambda: engine.occupancy().active == 0 and engine.occupancy().waiting == 0)


async def test_one_pipeline_draws_for_all_its_adapters_in_turns(engine: TransformersEngine) -> None:
    names = (None, "stripes", "dots")
    alone = [await draw(engine, name) for name in names]
    assert len(set(alone)) == 3
    begun = [engine.draw("painter", name, CAT)[0] for name in reversed(names)]
    assert [await rgb(one) for one in begun] == alone[::-1]


async def test_copies_differ_by_their_seeds(engine: TransformersEngine) -> None:
    copies = [await rgb(one) for one in engine.draw("painter", "dots", CAT, 3)]
    assert len(set(copies)) == 3
    assert copies[1] == await draw(engine, "dots", Drawing("a cat", "", 32, 32, 3, 5.0, 12))


async def test_leaving_stops_between_two_steps_and_frees_the_place(engine: TransformersEngine) -> None:
    begun = engine.draw("painter", None, SLOW, 1 + WAITING)
    await wait_for(lambda: engine.occupancy().active == 1)
    assert engine.occupancy().waiting == WAITING
    with pytest.raises(OverloadedError) as caught:
        engine.draw("painter", None, CAT)
    assert 1 <= caught.value.retry_after_seconds <= 60
    for generation in begun:
        generation.cancel()
    assert engine.occupancy().waiting == 0
    assert await draw(engine) == await draw(engine), "the next one is let in"
    await until_idle(engine)


async def test_pictures_are_begun_all_or_none(engine: TransformersEngine) -> None:
    with pytest.raises(OverloadedError):
        engine.draw("painter", None, CAT, 2 + WAITING)
    assert engine.occupancy().waiting == 0


async def test_a_detached_adapter_draws_what_was_asked_before(
    pipeline: Path, picture_adapters: dict[str, Path]
) -> None:
    engine = new_engine(pipeline, picture_adapters)
    expected = await draw(engine, "stripes")
    begun = engine.draw("painter", "stripes", CAT, 2)
    engine.retain({("painter", ""), ("painter", "dots")})
    with pytest.raises(NotLoadedError, match="stripes"):
        engine.draw("painter", "stripes", CAT)
    engine.attach_adapter("painter", "stripes", picture_adapters["stripes"])
    assert await rgb(begun[0]) == expected == await draw(engine, "stripes")
    engine.close()


async def test_an_unloaded_pipeline_draws_what_was_asked_and_frees_its_memory(
    pipeline: Path, picture_adapters: dict[str, Path]
) -> None:
    engine = new_engine(pipeline, picture_adapters)
    unet = weakref.ref(engine._studios["painter"]._pipeline._pipe.unet)
    (begun,) = engine.draw("painter", "stripes", CAT)
    engine.retain(set())
    with pytest.raises(NotLoadedError):
        engine.draw("painter", None, CAT)
    assert len(await rgb(begun)) == 32 * 32 * 3

    def gone() -> bool:
        gc.collect()
        return unet() is None

    await wait_for(gone)


async def test_closing_ends_what_is_under_way_with_an_error(pipeline: Path) -> None:
    engine = new_engine(pipeline, {})
    begun = engine.draw("painter", None, SLOW, 2)
    await wait_for(lambda: engine.occupancy().active == 1)
    await asyncio.to_thread(engine.close)
    for generation in begun:
        with pytest.raises(EngineFailedError, match="stopping"):
            await rgb(generation)


async def test_a_pipeline_says_nothing_and_a_language_model_draws_nothing(
    engine: TransformersEngine, tiny: Path
) -> None:
    engine.load_base("tiny", tiny)
    with pytest.raises(PromptError, match="/v1/images/generations"):
        engine.encode_chat("painter", [{"role": "user", "content": "hello"}])
    assert engine.labels("painter") == ()
    assert engine.canvas("tiny") is None
    with pytest.raises(PromptError, match="/v1/chat/completions"):
        engine.draw("tiny", None, CAT)
    with pytest.raises(NotLoadedError):
        engine.canvas("nothing")


def test_an_adapter_of_a_language_model_is_refused(engine: TransformersEngine, adapters: dict[str, Path]) -> None:
    with pytest.raises(UnusableWeightsError, match="pytorch_lora_weights"):
        engine.attach_adapter("painter", "cats", adapters["cats"])
