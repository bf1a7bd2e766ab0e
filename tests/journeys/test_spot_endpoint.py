"""An endpoint on rented machines: its replicas are taken in the middle of answers, and nobody notices."""

from __future__ import annotations

import threading
from typing import Any

import openai
import pytest

from sskai.contract import new_id
from sskai.testing import wait_for
from tests.journeys.conftest import Stack

pytestmark = [pytest.mark.journey, pytest.mark.timeout(400)]

TOKENS = 200


def standing(running: Stack, endpoint_id: str) -> list[dict[str, Any]]:
    """The endpoint's machines that cost something."""
    return [
        one
        for one in running.cloud.machines()
        if one["tags"].get("sskai-job") == endpoint_id and one["state"] != "gone"
    ]


def answer(asking: openai.OpenAI, name: str, began: threading.Event | None = None) -> str:
    """A long answer, drawn with a seed, as a stream."""
    stream = asking.completions.create(
        model=name,
        prompt="What does the cat say?",
        max_tokens=TOKENS,
        seed=7,
        stream=True,
        extra_body={"min_tokens": TOKENS},
    )
    text = ""
    for chunk in stream:
        text += chunk.choices[0].text
        if began is not None:
            began.set()
    return text


async def test_answers_outlive_the_machines_that_give_them(running: Stack, base_model: str) -> None:
    name = new_id("chat").replace("_", "-")
    asking = openai.OpenAI(base_url=f"{running.state.gateway_url}/v1", api_key=running.key, timeout=120)
    with running.client() as client:
        form: dict[str, Any] = {
            "name": name,
            "model": base_model,
            "kind": "spot",
            "replicas": {"minimum": 2, "maximum": 2},
        }
        form["traffic"] = {
            "requests_per_day": 1000,
            "input_tokens_per_request": 20,
            "output_tokens_per_request": TOKENS,
        }
        endpoint_id = client.request("POST", "/v1/endpoints", json=form)["id"]
        assert client.endpoints.wait(endpoint_id, limit_seconds=200)["state"] == "ready"
        await wait_for(lambda: client.endpoints.get(endpoint_id)["replicas"] == 2, limit_seconds=100)
        expected = answer(asking, name)

        before = {one["machine_id"] for one in standing(running, endpoint_id)}
        for machine_id in sorted(before):
            began, told = threading.Event(), []
            reading = threading.Thread(target=lambda: told.append(answer(asking, name, began)))  # noqa: B023
            reading.start()
            assert began.wait(60)
            running.cloud.interrupt(machine_id, 0)
            reading.join(100)
            assert told == [expected]
            await wait_for(
                lambda: len({one["machine_id"] for one in standing(running, endpoint_id)} - before) > 0,
                limit_seconds=60,
            )

        await wait_for(lambda: client.endpoints.get(endpoint_id)["usd_per_million_tokens"], limit_seconds=60)
        client.endpoints.delete(endpoint_id)
        await wait_for(lambda: not standing(running, endpoint_id), limit_seconds=60)
        spent = client.endpoints.get(endpoint_id)["spent_usd"]
        assert spent > 0
