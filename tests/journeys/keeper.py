"""A user who trains versions of one model and asks its endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import openai

from sskai.client import Client
from sskai.contract import new_id
from sskai.local.state import StackState
from sskai.testing import wait_for

ANIMALS = {"cat": "meow", "dog": "woof", "bird": "tweet", "fish": "blub"}


class Running(Protocol):
    """A stack, as far as a user sees it."""

    @property
    def state(self) -> StackState: ...
    @property
    def key(self) -> str: ...


def rows(say: Callable[[str, int], str]) -> list[dict[str, Any]]:
    """Questions that are all different: a row that was learnt tells nothing of what was not."""
    return [
        {
            "messages": [
                {"role": "user", "content": f"What does {animal} number {number} say?"},
                {"role": "assistant", "content": say(animal, number)},
            ]
        }
        for number in range(30)
        for animal in ANIMALS
    ]


class Keeper:
    """Trains versions of one model and asks its endpoint, as a user does."""

    def __init__(self, running: Running, client: Client, base_model: str, folder: Path) -> None:
        self.client, self._base, self._folder = client, base_model, folder
        self.name = new_id("bot").replace("_", "-")
        self._openai = openai.OpenAI(
            base_url=f"{running.state.gateway_url}/v1", api_key=running.key, max_retries=5, timeout=60
        )
        self._asked = 0

    def dataset(self, content: list[dict[str, Any]]) -> str:
        path = self._folder / f"{new_id('rows')}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
        made = self.client.datasets.upload(path, name=f"{self.name}-rows")
        return f"dataset://{made['name']}/{made['version']}"

    async def train(self, version: int, dataset: str, *, max_steps: int, learning_rate: float = 2e-3) -> None:
        """Returns once the version is there."""
        job = self.client.jobs.create(
            {
                "name": self.name,
                "model": {"base": self._base, "method": "lora", "rank": 8},
                "dataset": {"uri": dataset, "eval_fraction": 0.1},
                "hyperparameters": {
                    "batch_size": 8,
                    "learning_rate": learning_rate,
                    "max_steps": max_steps,
                    "sequence_length": 64,
                },
            }
        )
        ended = self.client.jobs.wait(job["id"], limit_seconds=400, poll_seconds=0.5)
        assert ended["state"] == "succeeded", ended

        def ready() -> bool:
            return any(one["id"] == f"{self.name}@{version}" for one in self.client.models.list())

        await wait_for(ready, limit_seconds=60)

    def ask(
        self,
        liked: Callable[[int], bool] | None = None,
        question: str = "",
        correction: str = "",
    ) -> None:
        """One request of a user who has not asked before. `liked`: what they think of this version's answers;
        `correction`: what they should have been told."""
        self._asked += 1
        answer = self._openai.chat.completions.create(
            model=self.name,
            messages=[{"role": "user", "content": question or f"What does cat number {self._asked % 30} say?"}],
            max_tokens=4,
            user=f"user {self._asked}",
        )
        said: dict[str, Any] = {"correction": correction} if correction else {}
        if liked is not None:
            found = self.client.request("POST", "/v1/feedback", json={"id": answer.id, "label": "seen"})
            said["label"] = "up" if liked(int(found["version"])) else "down"
        if said:
            self.client.request("POST", "/v1/feedback", json={"id": answer.id, **said})

    async def ended(self, endpoint_id: str, version: int, liked: Callable[[int], bool] | None = None) -> dict[str, Any]:
        """How the endpoint's rollout of this version ended; users ask meanwhile."""
        found: list[dict[str, Any]] = []

        def over() -> bool:
            self.ask(liked)
            traffic = self.client.endpoints.get(endpoint_id)["traffic"] or {"history": []}
            found[:] = [one for one in traffic["history"] if one["version"] == version]
            return bool(found)

        await wait_for(over, limit_seconds=120)
        return found[0]

    def figures(self, endpoint_id: str) -> dict[str, Any]:
        return dict(self.client.endpoints.get(endpoint_id)["traffic"])
