"""The demo's journey on a tiny model, alone and with each service killed on the way."""

from __future__ import annotations

import dataclasses
import os
import signal
from typing import Any

import pytest

from sskai.contract import new_id
from sskai.database import SERVICES
from sskai.demo.journey import Journey, Scenario
from sskai.demo.screen import Screen
from sskai.testing import wait_for
from tests.journeys.conftest import Stack

pytestmark = [pytest.mark.journey, pytest.mark.timeout(400)]

# Where each service has just been given something to do.
# Those that hold no job's course, or (the trainer's service, the gateway) only its ends: `make test-heavy` kills them.
LIGHTLY_HELD = ("optimizer", "inference", "monitor", "gateway", "trainer")
MOMENTS = {
    "gateway": ("planned", "training", "deploying"),
    "optimizer": ("uploaded", "submitted", "requeued"),
    "scheduler": ("submitted", "training", "requeued"),
    "trainer": ("training", "resumed"),
    "inference": ("deploying", "deployed", "drifting"),
    "monitor": ("training", "resumed", "drifting"),
}


def journey(running: Stack, scenario: Scenario, **options: object) -> Journey:
    named = dataclasses.replace(scenario, job_name=new_id("bot").replace("_", "-"))
    return Journey(
        running.client(),
        running.state.gateway_url,
        running.key,
        cloud=running.cloud,
        scenario=named,
        screen=Screen(quiet=True),
        **options,
    )


def check(figures: dict[str, Any], scenario: Scenario) -> None:
    """What must have been seen, whatever happened on the way."""
    assert figures["attempts"] == 2
    assert figures["lost_steps"] == 0, "with a notice nothing is lost"
    assert figures["steps"] == scenario.max_steps
    assert figures["eval_loss_after"] < figures["eval_loss_before"]
    assert figures["model_version"] == 1
    assert figures["interruptions"] == 1
    assert 0 < figures["paid_usd"] < figures["on_demand_usd"] * 2
    assert figures["drift_statistic"] >= figures["drift_threshold"]


def test_the_whole_journey(running: Stack, scenario: Scenario) -> None:
    check(journey(running, scenario).run(), scenario)


@pytest.mark.parametrize(
    "service", [pytest.param(one, marks=pytest.mark.heavy if one in LIGHTLY_HELD else ()) for one in SERVICES]
)
def test_a_killed_service_changes_nothing(running: Stack, scenario: Scenario, service: str) -> None:
    killed = []

    def kill(moment: str) -> None:
        pid = running.pid(service)
        if moment in MOMENTS[service] and pid is not None:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    check(journey(running, scenario, between=kill).run(), scenario)
    assert len(set(killed)) >= 2


async def test_without_a_notice_at_most_one_checkpoint_interval_is_lost(running: Stack, scenario: Scenario) -> None:
    # So long that what is written and not yet committed is a small part of it, on a fast machine as well.
    sudden = dataclasses.replace(scenario, notice_seconds=0.0, checkpoint_interval_steps=60)
    figures = await _train_only(running, sudden)
    assert figures["lost_steps"] <= sudden.checkpoint_interval_steps + 1
    assert figures["steps"] == sudden.max_steps


async def _train_only(running: Stack, scenario: Scenario) -> dict[str, Any]:
    one = journey(running, scenario)
    one.train(one.job_file(one.upload()))
    return one.figures


async def test_the_stack_is_quiet_afterwards(running: Stack) -> None:
    """Liveness: nothing lags, nothing is left running."""
    await wait_for(lambda: all(machine["state"] == "gone" for machine in running.cloud.machines()), limit_seconds=60)
