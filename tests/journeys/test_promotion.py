"""New versions of a served model, from their training to the name or back, without a hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from sskai.testing import wait_for
from tests.journeys.conftest import Stack
from tests.journeys.keeper import ANIMALS, Keeper, rows

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]

QUICK = {"mode": "auto", "steps": [0.5, 1.0], "minimum_requests": 8, "minimum_seconds": 0.0, "latency_tolerance": 50.0}


async def test_a_better_version_gets_the_name_and_worse_ones_do_not(
    running: Stack, base_model: str, tmp_path: Path
) -> None:
    with running.client() as client:
        keeper = Keeper(running, client, base_model, tmp_path)
        await keeper.train(
            1, keeper.dataset(rows(lambda _, number: f"I cannot tell you, number {number}.")), max_steps=40
        )
        form = {"name": keeper.name, "model": f"{keeper.name}@1", "kind": "adapter", "promotion": QUICK}
        endpoint_id = client.request("POST", "/v1/endpoints", json=form)["id"]
        assert client.endpoints.wait(endpoint_id)["state"] == "ready"
        # Users who ask about cats alone are a drift: a version that it makes would be tried instead of the ones below.
        client.request("PUT", f"/v1/endpoints/{endpoint_id}/retraining", json={"mode": "suggest"})

        good = keeper.dataset(rows(lambda animal, _: f"The {animal} says {ANIMALS[animal]}."))
        await keeper.train(2, good, max_steps=80)
        promoted = await keeper.ended(endpoint_id, 2)
        assert (promoted["stage"], promoted["from_version"]) == ("promoted", 1), promoted
        await wait_for(lambda: client.models.get(f"{keeper.name}@champion")["id"] == f"{keeper.name}@2")

        await keeper.train(3, good, max_steps=1, learning_rate=1e-6)  # it has learnt nothing
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
