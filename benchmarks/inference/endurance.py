"""Thousands of answers while everything under them changes: replicas are killed, drained, scaled; versions come and go.

An endpoint of kind spot with two to three replicas answers, some as streams. Each answer is compared with what its
version says to its prompt on a quiet machine (greedy, so there is one right answer): another one is mixed up, none is
lost. In a third of the requests a better version is tried; users like its answers, and it must get the name by itself.
Then the former one is tried, is liked less, and must go by itself. No request is tried again by the client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from benchmarks.figures import Figure, figure
from benchmarks.inference.system import LIMIT_SECONDS, System, asking, say
from sskai.client.documents import Endpoint
from sskai.testing import wait_for
from tests.journeys.keeper import ANIMALS, Keeper, rows

TOKENS = 12
PROMPTS = [f"What does {animal} number {number} say?" for number in range(6) for animal in ANIMALS]
DRAIN_NOTICE_SECONDS = 20.0
RULES = {
    "mode": "auto",
    "steps": [0.25, 1.0],
    "minimum_requests": 100,
    "minimum_seconds": 0.0,
    "latency_tolerance": 50.0,  # machines are lent and taken here: latency tells nothing of a version
}
SETTINGS = {
    "SSKAI_PATIENCE_SECONDS": "2",
    "SSKAI_TRAINER_THREADS": "1",
    "SSKAI_ROLLOUT_SECONDS": "0.5",
    "SSKAI_SCALE_DOWN_SECONDS": "5",
    "SSKAI_SCALE_DOWN_COOLDOWN_SECONDS": "5",
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--endurance-requests", type=int, default=10_000)
    parser.add_argument("--endurance-streams", type=int, default=12, help="at once")


@dataclass
class Tally:
    """What became of the requests."""

    answers: int = 0
    lost: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    by_version: Counter[str] = field(default_factory=Counter)

    @property
    def asked(self) -> int:
        return self.answers + len(self.lost)


async def figures(system: System, given: argparse.Namespace) -> list[Figure]:
    keeper = Keeper(system, system.client, system.base, system.folder)
    say("training two versions")
    poor = await asyncio.to_thread(keeper.dataset, rows(lambda _, number: f"I cannot tell you, number {number}."))
    good = await asyncio.to_thread(keeper.dataset, rows(lambda animal, _: f"The {animal} says {ANIMALS[animal]}."))
    await keeper.train(1, poor, max_steps=40)
    await keeper.train(2, good, max_steps=80)
    right = {version: await _right(system, f"{keeper.name}@{version}") for version in (1, 2)}
    endpoint = await asyncio.to_thread(
        system.endpoint,
        f"{keeper.name}@1",
        kind="spot",
        promotion=RULES,
        replicas={"minimum": 2, "maximum": 3, "tokens_per_second": 100},
        traffic={"requests_per_day": 1000, "input_tokens_per_request": 20, "output_tokens_per_request": TOKENS},
    )
    tally, events = Tally(), Counter[str]()
    async with asking(system) as session:
        world = _World(system, endpoint["id"], f"{keeper.name}@1", f"{keeper.name}@2", events)
        changing = asyncio.create_task(world.change(tally, given.endurance_requests))
        numbers = iter(range(given.endurance_requests))

        async def stream() -> None:
            for number in numbers:
                await _ask(session, endpoint["name"], number, right, tally)

        await asyncio.gather(*(stream() for _ in range(given.endurance_streams)))
        ended = await changing
    for line in [*tally.lost, *tally.mixed][:10]:
        say(line)
    asked = given.endurance_requests
    how = f"{asked} requests, {given.endurance_streams} at once; {dict(events)}; answers by version: {tally.by_version}"
    return [
        figure("endurance_lost", len(tally.lost), "requests", 0, "equal", how=how),
        figure("endurance_mixed", len(tally.mixed), "answers", 0, "equal", how=how),
        figure("better_promoted", ended.get(2) == "promoted", "of 1", 1, "equal", how=str(ended)),
        figure("worse_rolled_back", ended.get(1) == "rolled-back", "of 1", 1, "equal", how=str(ended)),
    ]


class _World:
    """What changes under the answers, by how many there were."""

    def __init__(self, system: System, endpoint_id: str, former: str, better: str, events: Counter[str]) -> None:
        self._system, self._endpoint_id = system, endpoint_id
        self._former, self._better, self._events = former, better, events

    async def change(self, tally: Tally, asked: int) -> dict[int, str]:
        """Returns how the two rollouts ended: version -> stage."""
        plan = [
            (0.05, self._kill),
            (0.10, self._drain),
            (0.15, lambda: self._try(self._better)),
            (0.25, self._kill),
            (0.45, self._drain),
            (0.50, lambda: self._try(self._former)),
            (0.60, self._kill),
            (0.75, self._drain),
            (0.85, self._kill),
        ]
        watching = asyncio.create_task(self._watch())
        for share, act in plan:
            await wait_for(lambda: tally.asked >= share * asked, limit_seconds=3600)  # noqa: B023
            await asyncio.to_thread(act)
        await wait_for(lambda: tally.asked >= asked, limit_seconds=3600)
        watching.cancel()
        return self._ended()

    def _ended(self) -> dict[int, str]:
        return {one["version"]: one["stage"] for one in self._shown()["traffic"]["history"]}

    def _shown(self) -> Endpoint:
        return self._system.client.endpoints.get(self._endpoint_id)

    async def _watch(self) -> None:
        """Counts how often the number of replicas changes."""
        last = None
        while True:
            now = (await asyncio.to_thread(self._shown))["replicas"]
            if last is not None and now != last:
                self._events[f"replicas {last} to {now}"] += 1
            last = now
            await asyncio.sleep(0.5)

    def _machines(self) -> list[str]:
        return [
            one["machine_id"]
            for one in self._system.cloud.machines()
            if one["tags"].get("sskai-job", "").startswith(self._endpoint_id)
            and one["state"] == "running"
            and one["capacity_type"] == "spot"
        ]

    def _take(self, notice_seconds: float, word: str) -> None:
        machines = self._machines()
        if machines:
            self._system.cloud.interrupt(machines[0], notice_seconds)
            self._events[word] += 1
            say(f"{word}: {machines[0]}")

    def _kill(self) -> None:
        self._take(0, "kills")

    def _drain(self) -> None:
        self._take(DRAIN_NOTICE_SECONDS, "drains")

    def _try(self, version: str) -> None:
        """Once the one before has ended; the answers go on meanwhile."""
        until = time.monotonic() + LIMIT_SECONDS
        while version == self._former and not self._ended() and time.monotonic() < until:
            time.sleep(0.5)
        self._system.client.request("PATCH", f"/v1/endpoints/{self._endpoint_id}", json={"canary": version})
        say(f"canary: {version}")


async def _right(system: System, version: str) -> dict[str, str]:
    """What it says to each prompt, one at a time."""
    endpoint = await asyncio.to_thread(system.endpoint, version, sample_rate=0.0)
    async with asking(system) as session:
        said = {}
        for prompt in PROMPTS:
            async with session.post("/v1/chat/completions", json=_body(endpoint["name"], prompt)) as answer:
                said[prompt] = (await answer.json())["choices"][0]["message"]["content"]
    await asyncio.to_thread(system.client.endpoints.delete, endpoint["id"])
    return said


def _body(name: str, prompt: str) -> dict[str, Any]:
    return {
        "model": name,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": TOKENS,
        "temperature": 0,
    }


async def _ask(
    session: aiohttp.ClientSession, name: str, number: int, right: dict[int, dict[str, str]], tally: Tally
) -> None:
    prompt = PROMPTS[number % len(PROMPTS)]
    body = _body(name, prompt) | {"user": f"user {number}", "stream": number % 2 == 0}
    try:
        async with session.post("/v1/chat/completions", json=body) as answer:
            answer_id, said = await (_streamed(answer) if body["stream"] else _whole(answer))
    except (aiohttp.ClientError, RuntimeError, TimeoutError) as error:
        tally.lost.append(f"{prompt}: {error!r}")
        return
    tally.answers += 1
    gave = [str(version) for version, answers in right.items() if answers[prompt] == said]
    tally.by_version[" or ".join(gave) or "none"] += 1
    if not gave:
        tally.mixed.append(f"{prompt}: {said!r}, not {[answers[prompt] for answers in right.values()]}")
    await _tell(session, answer_id, "up" if gave == ["2"] else "down")


async def _whole(answer: aiohttp.ClientResponse) -> tuple[str, str]:
    """Raises RuntimeError: it is an error."""
    document = await answer.json()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {document}")
    return document["id"], document["choices"][0]["message"]["content"]


async def _streamed(answer: aiohttp.ClientResponse) -> tuple[str, str]:
    """Raises RuntimeError: it broke off."""
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {await answer.text()}")
    said, answer_id, done = "", "", False
    async for line in answer.content:
        text = line.decode().strip().removeprefix("data: ")
        if text == "[DONE]":
            done = True
        elif text:
            chunk = json.loads(text)
            if "error" in chunk:
                raise RuntimeError(text)
            answer_id = chunk["id"]
            said += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
    if not done:
        raise RuntimeError(f"it ended after {said!r}")
    return answer_id, said


async def _tell(session: aiohttp.ClientSession, answer_id: str, label: str) -> None:
    async with session.post("/v1/feedback", json={"id": answer_id, "label": label}) as answer:
        await answer.read()
