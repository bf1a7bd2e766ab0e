"""What gateway and router add to an answer: through HTTP, both services and back, beyond the engine called directly.

The same prompts at the same steady rate to the tiny model, whose answers take little: through the gateway with a key
(whole and as a stream), and to an engine in this process. The two take turns. A call of the client's own HTTP is in the
figure, as it is in a user's.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import aiohttp

from benchmarks.figures import Figure, figure
from benchmarks.inference.system import System, asking, at_rate, percentile
from services.inference.engine import Sampling
from services.inference.runner import Limits
from services.inference.transformers_engine import TransformersEngine

P50_GOAL_MS, P99_GOAL_MS = 3.0, 15.0
TOKENS = 1
WARM_UP_REQUESTS = 100


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overhead-requests", type=int, default=1000, help="in each round, at 50 a second")
    parser.add_argument("--overhead-rounds", type=int, default=3)
    parser.add_argument("--overhead-rate", type=float, default=50)


async def figures(system: System, given: argparse.Namespace) -> list[Figure]:
    name = system.endpoint(system.base, sample_rate=0.0)["name"]
    engine = TransformersEngine(limits=Limits(32, 128, 256, 2**28), max_context_tokens=4096, threads=1, device="cpu")
    engine.load_base("tiny", system.folder)

    async def directly(number: int) -> None:
        tokens = engine.encode_text("tiny", _prompt(number))
        (generation,) = engine.generate("tiny", None, tokens, Sampling(TOKENS, temperature=0, min_tokens=TOKENS))
        async for _ in generation.pieces():
            pass

    beyond: dict[str, list[float]] = {"p50": [], "p99": []}
    sides: list[dict[str, list[float]]] = []
    async with asking(system) as session:

        async def through(number: int) -> None:
            await _ask(session, name, number)

        for ask in (through, directly):
            await at_rate(given.overhead_rate, WARM_UP_REQUESTS, ask)
        for _ in range(given.overhead_rounds):
            one = {
                "direct": await at_rate(given.overhead_rate, given.overhead_requests, directly),
                "gateway": await at_rate(given.overhead_rate, given.overhead_requests, through),
            }
            sides.append(one)
            for quantile, share in (("p50", 0.5), ("p99", 0.99)):
                there, here = (percentile(one[side], share) for side in ("gateway", "direct"))
                beyond[quantile].append(1000 * (there - here))
    engine.close()
    whole = {
        side: [round(1000 * percentile([v for one in sides for v in one[side]], share), 2) for share in (0.5, 0.99)]
        for side in ("direct", "gateway")
    }
    how = (
        f"{given.overhead_rate:g} requests/s, {given.overhead_rounds} rounds of {given.overhead_requests} by turns,"
        f" {TOKENS} token of the tiny model; ms at p50 and p99: {whole}"
    )
    return [
        figure(f"overhead_{quantile}", statistics.median(beyond[quantile]), "ms", goal, "lower", how=how)
        for quantile, goal in (("p50", P50_GOAL_MS), ("p99", P99_GOAL_MS))
    ]


def _prompt(number: int) -> str:
    return f"Where is my order number {number}?"


async def _ask(session: aiohttp.ClientSession, name: str, number: int) -> None:
    body: dict[str, Any] = {"model": name, "prompt": _prompt(number), "max_tokens": TOKENS, "temperature": 0}
    async with session.post("/v1/completions", json=body | {"min_tokens": TOKENS}) as answer:
        document = await answer.json()
        if answer.status != 200 or document["usage"]["completion_tokens"] != TOKENS:
            raise RuntimeError(f"{answer.status}: {document}")
