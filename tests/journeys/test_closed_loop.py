"""The closed loop: users ask something new, and a version that knows it gets the name, without a hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sskai.demo.observer import Observer
from sskai.testing import wait_for
from tests.journeys.conftest import Stack
from tests.journeys.keeper import ANIMALS, Keeper, rows
from tests.journeys.test_promotion import QUICK

pytestmark = [pytest.mark.journey, pytest.mark.heavy, pytest.mark.timeout(900)]

MOST_REQUESTS = 200
STEPS = ("drift", "requested", "job-succeeded", "evaluated", "canary", "promoted")


async def test_drift_is_answered_by_a_version_that_learnt_from_it(
    running: Stack, base_model: str, tmp_path: Path
) -> None:
    with running.client() as client:
        see = Observer(client)
        keeper = Keeper(running, client, base_model, tmp_path)
        animals = keeper.dataset(rows(lambda animal, _: f"The {animal} says {ANIMALS[animal]}."))
        await keeper.train(1, animals, max_steps=60)
        form = {"name": keeper.name, "model": f"{keeper.name}@1", "kind": "adapter", "promotion": QUICK}
        endpoint_id = client.request("POST", "/v1/endpoints", json=form)["id"]
        assert client.endpoints.wait(endpoint_id)["state"] == "ready"
        policy = {"mode": "auto", "on": {"drift": True}, "data": "traffic"}
        client.request("PUT", f"/v1/endpoints/{endpoint_id}/retraining", json=policy)

        # Nobody asks about animals any more; users say what they should have been told.
        asked = 0

        def ask_about_orders(liked: Any = None) -> None:
            nonlocal asked
            asked += 1
            number = asked % 97
            keeper.ask(liked, question=f"Where is order number {number}?", correction=f"Order {number} is on its way.")

        def retrained() -> bool:
            ask_about_orders()
            assert asked < MOST_REQUESTS
            return bool(see.seen("RetrainRequested", endpoint_id=endpoint_id))

        await wait_for(retrained, limit_seconds=200)
        requested = see.seen("RetrainRequested", endpoint_id=endpoint_id)[0]
        assert requested["data"] == "traffic"

        def over() -> bool:
            ask_about_orders(lambda version: version == 2)
            return any(one["version"] == 2 for one in keeper.figures(endpoint_id)["history"])

        await wait_for(over, limit_seconds=400, pause_seconds=0.2)
        (ended,) = [one for one in keeper.figures(endpoint_id)["history"] if one["version"] == 2]
        assert ended["stage"] == "promoted", ended
        await wait_for(lambda: client.models.get(f"{keeper.name}@champion")["id"] == f"{keeper.name}@2")

        # Better on what is asked now, by rows that neither version has learnt.
        assert see.seen("ModelEvaluated", model_id=requested["model_id"], version=2)
        timeline = client.request("GET", f"/v1/endpoints/{endpoint_id}/retraining")["timeline"]
        steps = dict.fromkeys(one["kind"] for one in reversed(timeline))
        assert [step for step in steps if step in STEPS] == [*STEPS]

        # What it was trained on says where it came from.
        dataset = client.request("GET", f"/v1/datasets/{keeper.name}-rows@2")
        assert dataset["lineage"]["retrain_id"] == requested["retrain_id"]
