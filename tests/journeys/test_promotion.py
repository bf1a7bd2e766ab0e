"""New versions of a served model, from their training to the name or back, without a hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from sskai.client import Client
from sskai.contract import new_id
from sskai.testing import wait_for
from tests.journeys.conftest import Stack

pytestmark = [pytest.mark.journey, pytest.mark.heavy, pytest.mark.timeout(1200)]

ANIMALS = {"cat": "meow", "dog": "woof", "bird": "tweet", "fish": "blub"}
QUICK = {"mode": "auto", "steps": [0.5, 1.0], "minimum_requests": 8, "minimum_seconds": 0.0, "latency_tolerance": 50.0}


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

    def __init__(self, running: Stack, client: Client, base_model: str, folder: Path) -> None:
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

    def train(self, dataset: str, *, max_steps: int, learning_rate: float = 2e-3) -> dict[str, Any]:
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
        return ended

    def ask(self, liked: Callable[[int], bool] | None = None) -> None:
        """One request of a user who has not asked before; `liked`: what they think of this version's answers."""
        self._asked += 1
        answer = self._openai.chat.completions.create(
            model=self.name,
            messages=[{"role": "user", "content": f"What does cat number {self._asked % 30} say?"}],
            max_tokens=4,
            user=f"user {self._asked}",
        )
        if liked is None:
            return
        found = self.client.request("POST", "/v1/feedback", json={"id": answer.id, "label": "seen"})
        word = "up" if liked(int(found["version"])) else "down"
        self.client.request("POST", "/v1/feedback", json={"id": answer.id, "label": word})

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


async def test_a_better_version_gets_the_name_and_worse_ones_do_not(
    running: Stack, base_model: str, tmp_path: Path
) -> None:
    with running.client() as client:
        keeper = Keeper(running, client, base_model, tmp_path)
        keeper.train(keeper.dataset(rows(lambda _, number: f"I cannot tell you, number {number}.")), max_steps=40)
        form = {"name": keeper.name, "model": f"{keeper.name}@1", "kind": "adapter", "promotion": QUICK}
        endpoint_id = client.request("POST", "/v1/endpoints", json=form)["id"]
        assert client.endpoints.wait(endpoint_id)["state"] == "ready"

        good = keeper.dataset(rows(lambda animal, _: f"The {animal} says {ANIMALS[animal]}."))
        keeper.train(good, max_steps=80)
        promoted = await keeper.ended(endpoint_id, 2)
        assert (promoted["stage"], promoted["from_version"]) == ("promoted", 1), promoted
        await wait_for(lambda: client.models.get(f"{keeper.name}@champion")["id"] == f"{keeper.name}@2")

        keeper.train(good, max_steps=1, learning_rate=1e-6)  # it has learnt nothing
        refused = await keeper.ended(endpoint_id, 3)
        assert refused["stage"] == "rolled-back"
        assert refused["reason"].startswith("evaluation: row_loss")
        assert all(one["version"] != 3 for one in keeper.figures(endpoint_id)["versions"]), "nobody was answered by it"

        # Nothing was measured of version 1 against version 2: what its users think decides.
        client.request("PATCH", f"/v1/endpoints/{endpoint_id}", json={"canary": f"{keeper.name}@1"})
        disliked = await keeper.ended(endpoint_id, 1, liked=lambda version: version == 2)
        assert disliked["stage"] == "rolled-back"
        assert disliked["reason"].startswith("quality"), disliked
        assert client.models.get(f"{keeper.name}@champion")["id"] == f"{keeper.name}@2"
