"""What must not break it: more streams than places, readers who do not read, clients who leave, bad requests.

Every refusal must have OpenAI's shape and a 4xx. When all are gone, no sequence may be left under way, and the memory
of gateway and inference must not have grown over the rounds by more than an allocator's noise.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from typing import Any

import aiohttp
import psutil

from benchmarks.figures import Figure, figure
from benchmarks.inference.system import LIMIT_SECONDS, System, asking, say

STREAMS_LIMIT = 1000  # the gateway's default for one key
LEAVERS, SLOW_READERS = 200, 20
GROWTH_GOAL_MIB = 30.0
SETTINGS = {
    "SSKAI_PATIENCE_SECONDS": "2",
    "SSKAI_MAX_WAITING_SEQUENCES": "2000",
    "SSKAI_REQUESTS_PER_SECOND_PER_KEY": "10000",  # the limit meant here is that of requests at once
    "SSKAI_REQUEST_BURST_PER_KEY": "10000",
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hostile-rounds", type=int, default=4)


async def figures(system: System, given: argparse.Namespace) -> list[Figure]:
    # The demo's model: of a quicker one the first streams would have ended before the last ones began.
    name = (await asyncio.to_thread(system.endpoint, "smollm2-135m-instruct", sample_rate=0.0))["name"]
    processes = {part: psutil.Process(system.pid(part)) for part in ("gateway", "inference")}
    resident: list[float] = []
    refused, misshapen = 0, []

    async with asking(system) as session:
        for turn in range(given.hostile_rounds):
            refused += await _too_many(session, name)
            await _slow_readers(session, name)
            await _leavers(session, name)
            misshapen += await _bad_requests(session, name)
            await _quiet(system)
            resident.append(sum(one.memory_info().rss for one in processes.values()) / 2**20)
            say(f"{turn + 1}/{given.hostile_rounds}: {resident[-1]:.0f} MiB in gateway and inference")
        left = await _sequences(system)
    growth = resident[-1] - resident[0]
    rounds = given.hostile_rounds
    return [
        figure(
            "streams_over_the_limit_refused", refused / rounds, "of 1", 1, "equal", how=f"stream {STREAMS_LIMIT + 1}"
        ),
        figure("misshapen_errors", len(misshapen), "answers", 0, "equal", how="; ".join(misshapen[:5])),
        figure("sequences_left", left, "sequences", 0, "equal", how=f"after {rounds} rounds"),
        figure(
            "memory_growth",
            growth,
            "MiB",
            GROWTH_GOAL_MIB,
            "lower",
            how=f"resident, last round less first: {[round(one) for one in resident]}; the goal is this program's own",
        ),
    ]


def _body(name: str, tokens: int) -> dict[str, Any]:
    return {"model": name, "prompt": "Hello", "max_tokens": tokens, "min_tokens": tokens, "stream": True}


async def _too_many(session: aiohttp.ClientSession, name: str) -> int:
    """As many streams as the key may have, and one more. Returns whether that one was refused as it should be."""
    streams = await asyncio.gather(
        *(session.post("/v1/completions", json=_body(name, 300)) for _ in range(STREAMS_LIMIT))
    )
    try:
        if any(one.status != 200 for one in streams):
            raise RuntimeError(f"a stream within the limit was refused: {Counter(one.status for one in streams)}")
        async with session.post("/v1/completions", json=_body(name, 1)) as over:
            code = (await over.json())["error"]["code"] if over.status == 429 else ""
            return int(code == "concurrency_limit_exceeded" and "Retry-After" in over.headers)
    finally:
        for one in streams:
            one.close()


async def _slow_readers(session: aiohttp.ClientSession, name: str) -> None:
    """They read a token and then nothing, while others are answered as ever."""
    slow = [await session.post("/v1/completions", json=_body(name, 300)) for _ in range(SLOW_READERS)]
    try:
        for one in slow:
            await one.content.readany()
        async with session.post("/v1/completions", json=_body(name, 8)) as other:
            if b"[DONE]" not in await other.read():
                raise RuntimeError("somebody who reads was kept waiting by those who do not")
    finally:
        for one in slow:
            one.close()


async def _leavers(session: aiohttp.ClientSession, name: str) -> None:
    """They go at any moment: before the first token, in the middle."""

    async def leave(number: int) -> None:
        async def ask() -> None:
            async with session.post("/v1/completions", json=_body(name, 300)) as answer:
                await answer.read()

        with_patience = asyncio.create_task(ask())
        await asyncio.sleep(0.005 * (number % 40))
        with_patience.cancel()
        await asyncio.gather(with_patience, return_exceptions=True)

    await asyncio.gather(*(leave(number) for number in range(LEAVERS)))


async def _bad_requests(session: aiohttp.ClientSession, name: str) -> list[str]:
    """Those whose answer is not a refusal in OpenAI's shape."""
    chat, text = "/v1/chat/completions", "/v1/completions"
    hello = {"role": "user", "content": "hello"}
    asked: list[tuple[str, Any]] = [
        (text, {"model": name, "prompt": "long " * 9000}),
        (text, {"model": name, "prompt": "x" * 2 * 1024 * 1024}),  # over the gateway's limit of a body
        (text, {"model": name, "prompt": ""}),
        (text, {"model": name, "prompt": "Hello", "max_tokens": -1}),
        (text, {"model": name, "prompt": "Hello", "temperature": "hot"}),
        (text, {"model": "nobody", "prompt": "Hello"}),
        (text, {"prompt": "Hello"}),
        (text, [1, 2]),
        (chat, {"model": name, "messages": []}),
        (chat, {"model": name, "messages": [{"role": "wizard", "content": "hello"}]}),
        (chat, {"model": name, "messages": "hello"}),
        (chat, {"model": name, "messages": [hello], "n": 100_000}),
        (chat, {"model": name, "messages": [hello], "stop": ["x"] * 1000}),
        (chat, {"model": name, "messages": [hello], "response_format": {"type": "json_schema"}}),
    ]
    wrong = []
    for path, body in asked:
        async with session.post(path, json=body) as answer:
            told = await answer.json(content_type=None)
            error = told.get("error") if isinstance(told, dict) else None
            shaped = isinstance(error, dict) and {"message", "type", "param", "code"} <= error.keys()
            if not 400 <= answer.status < 500 or not shaped:
                wrong.append(f"{str(body)[:80]}: {answer.status} {str(told)[:200]}")
    return wrong


async def _sequences(system: System) -> float:
    """Under way and waiting in inference's engine, by its own metrics."""
    url = f"{system.state.environment['SSKAI_INFERENCE_URL']}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        lines = (await answer.text()).splitlines()
    names = ("sskai_inference_active_sequences ", "sskai_inference_waiting_sequences ")
    found = [float(line.split()[-1]) for line in lines if line.startswith(names)]
    if len(found) != len(names):
        raise RuntimeError(f"inference tells no {' and '.join(names)}")
    return sum(found)


async def _quiet(system: System) -> None:
    """Returns once nothing is under way."""
    until = time.monotonic() + LIMIT_SECONDS
    while await _sequences(system):
        if time.monotonic() > until:
            raise TimeoutError(f"sequences are left after {LIMIT_SECONDS:g} s")
        await asyncio.sleep(0.5)
