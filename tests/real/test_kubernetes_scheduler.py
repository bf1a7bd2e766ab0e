"""The scheduler's own process, PostgreSQL, Kafka and Kubernetes: a job from its submission to its end."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from sskai.events import v1 as events
from sskai.testing import wait_for
from tests.real.namespace import Namespace
from tests.real.scheduling import STEPS, TENANT, Scheduling, scheduling

pytestmark = pytest.mark.real

LIMIT_SECONDS = 60


@pytest.mark.timeout(300)
async def test_a_job_is_launched_moved_off_a_lost_node_and_cleared_away(
    namespace: Namespace, kafka: str, postgres: str, tmp_path: Path
) -> None:
    async with scheduling(tmp_path, kafka, postgres, namespace) as world:
        job_id = await world.submit()
        first = await _launched(world, job_id, 1)
        world.namespace.remove_node(await world.node_of(first))
        second = await _launched(world, job_id, 2)
        [lost] = await wait_for(lambda: _told(world, events.MachineLost, first), limit_seconds=LIMIT_SECONDS)
        assert lost.reason == "its node is no more"

        # A scheduler that is killed finds everything again, and launches nothing twice.
        world.replicas[0].kill()
        await wait_for(world.replicas[0].ready, limit_seconds=LIMIT_SECONDS, pause_seconds=0.2)

        finished = events.AttemptFinished(
            job_id=job_id,
            tenant_id=TENANT,
            attempt=2,
            succeeded=True,
            artifact_uri="s3://real/artifact",
            steps=STEPS,
            at=datetime.now(UTC),
        )
        namespace.end(await namespace.pod(second), 0)
        await world.publish(finished)
        await wait_for(lambda: _told_of_job(world, events.JobSucceeded, job_id), limit_seconds=LIMIT_SECONDS)
        await wait_for(lambda: not namespace.jobs(), limit_seconds=LIMIT_SECONDS)
        assert [(one.attempt, one.name) for one in world.jobs.of(job_id)] == [(1, first), (2, second)]


async def _launched(world: Scheduling, job_id: str, attempt: int) -> str:
    """The Job's name, once its pod runs and the scheduler has told it."""

    def told() -> list[events.AttemptStarted]:
        return [one for one in _told_of_job(world, events.AttemptStarted, job_id) if one.attempt == attempt]

    [started] = await wait_for(told, limit_seconds=LIMIT_SECONDS)
    await world.namespace.running(started.machine_id)
    return str(started.machine_id)


def _told_of_job(world: Scheduling, kind: type[Message], job_id: str) -> list[Any]:
    return [one for one in world.told if isinstance(one, kind) and one.job_id == job_id]


def _told(world: Scheduling, kind: type[Message], machine_id: str) -> list[Any]:
    return [one for one in world.told if isinstance(one, kind) and one.machine_id == machine_id]
