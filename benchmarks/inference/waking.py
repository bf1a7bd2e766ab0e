"""From nothing in memory, or from a new version, to the first answer: the demo's model on the embedded stack.

- `cold_start`: a serverless endpoint that sleeps is asked; seconds until the whole answer of one token.
- `attach`: a job trains an adapter on a base that runs; seconds from `ModelVersionReady`, as it is heard on
  the event stream until an endpoint of the new version has answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time

from benchmarks.figures import Figure, figure
from benchmarks.inference.system import LIMIT_SECONDS, System, asking, say
from sskai.client.documents import Endpoint
from sskai.contract import new_id
from sskai.testing import wait_for
from tests.journeys.keeper import rows

MODEL = "smollm2-135m-instruct"
IDLE_SECONDS = 2
SETTINGS = {"SSKAI_PATIENCE_SECONDS": "2", "SSKAI_IDLE_SECONDS": str(IDLE_SECONDS)}
ATTACH_GOAL_SECONDS = 3.0


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wakes", type=int, default=5)
    parser.add_argument("--attaches", type=int, default=3)


async def figures(system: System, given: argparse.Namespace) -> list[Figure]:
    return [*await _cold_starts(system, given.wakes), *await _attaches(system, given.attaches)]


async def _cold_starts(system: System, count: int) -> list[Figure]:
    endpoint = await asyncio.to_thread(system.endpoint, MODEL, kind="serverless", sample_rate=0.0)
    cold, told, warm = [], [], []
    async with asking(system) as session:

        async def answer() -> float:
            began = time.perf_counter()
            body = {"model": endpoint["name"], "prompt": "Hello", "max_tokens": 1, "temperature": 0}
            async with session.post("/v1/completions", json=body) as answer:
                if answer.status != 200:
                    raise RuntimeError(f"{answer.status}: {await answer.text()}")
            return time.perf_counter() - began

        def shown() -> Endpoint:
            return system.client.endpoints.get(endpoint["id"])

        for turn in range(count):
            await wait_for(lambda: shown()["replicas"] == 0, limit_seconds=LIMIT_SECONDS)
            cold.append(await answer())
            warm.append(await answer())
            await wait_for(lambda: shown()["replicas"] == 1, limit_seconds=LIMIT_SECONDS)
            told.append(shown()["cold_start_seconds"])
            say(f"{turn + 1}/{count} cold start: {cold[-1]:.2f} s, {told[-1]:.2f} s by the endpoint's own word")
    await asyncio.to_thread(system.client.endpoints.delete, endpoint["id"])
    how = f"{MODEL}, medians of {count}; the next request {statistics.median(warm):.2f} s; shown: {told[-1]:.2f} s"
    return [
        figure("cold_start", statistics.median(cold), "s", None, "lower", how=how),
        figure("cold_starts_refused", 0, "requests", 0, "equal", how="any other answer than 200 ends this program"),
    ]


async def _attaches(system: System, count: int) -> list[Figure]:
    running = await asyncio.to_thread(system.endpoint, MODEL, sample_rate=0.0)
    data = system.folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows(lambda animal, _: f"A {animal}.")[:20]))
    dataset = await asyncio.to_thread(system.client.datasets.upload, data, name="rows")
    taken = []
    for turn in range(count):
        name = new_id("bot").replace("_", "-")
        heard = asyncio.create_task(_first_answer(system, name))
        job = await asyncio.to_thread(
            system.client.jobs.create,
            {
                "name": name,
                "model": {"base": MODEL, "method": "lora", "rank": 8},
                "dataset": {"uri": f"dataset://{dataset['name']}/{dataset['version']}"},
                "hyperparameters": {"batch_size": 1, "max_steps": 2, "sequence_length": 64},
            },
        )
        taken.append(await asyncio.wait_for(heard, LIMIT_SECONDS))
        say(f"{turn + 1}/{count} attach: {taken[-1]:.2f} s after ModelVersionReady of {job['id']}")
    await asyncio.to_thread(system.client.endpoints.delete, running["id"])
    how = f"a rank-8 adapter of {MODEL} on a base that runs, medians of {count}: event heard, endpoint made, one token"
    return [figure("attach", statistics.median(taken), "s", ATTACH_GOAL_SECONDS, "lower", how=how)]


async def _first_answer(system: System, name: str) -> float:
    """Seconds from the word that a version of this name is ready to its first answer."""
    async with asking(system) as session, session.get("/v1/events", params={"types": "ModelVersionReady"}) as stream:
        async for line in stream.content:
            if line.startswith(b"data:") and name in line.decode():
                break
        began = time.perf_counter()
        form = {"name": name, "model": f"{name}@1", "sample_rate": 0.0}
        async with session.post("/v1/endpoints", json=form) as made:
            if made.status != 202:
                raise RuntimeError(await made.text())
        # It waits for the endpoint, as any request does that comes early.
        body = {"model": name, "prompt": "Hello", "max_tokens": 1}
        async with session.post("/v1/completions", json=body) as answer:
            if answer.status != 200:
                raise RuntimeError(await answer.text())
        return time.perf_counter() - began
