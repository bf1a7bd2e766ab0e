"""The steps after a restore, each on real parts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import typer
from sqlalchemy import text

from services.gateway.handlers import HANDLERS as GATEWAY
from services.gateway.republishing import republish
from services.gateway.store import Store as GatewayStore
from services.scheduler import transitions
from services.scheduler.domain import EndReason, State
from services.scheduler.machines_loop import EXIT_REASONS
from services.scheduler.recovering import Raised, recover
from services.scheduler.store import Store
from services.trainer.domain import Exit
from sskai import broker_admin, bus, contract
from sskai.broker_admin import connected
from sskai.bus import Publisher
from sskai.cli import recover as command
from sskai.database import SERVICES, Database
from sskai.events import v1 as events
from sskai.local.processes import free_ports
from sskai.objects import Objects
from sskai.testing import envelope, handle, heard, wait_for
from tests.scheduler.examples import START, running_job, submitted

SERVICE = "scheduler"


def fence(objects: Objects, job_id: str, number: int) -> None:
    objects.put_bytes(f"jobs/{job_id}/fences/{number:05d}.json", b"{}")


async def test_numbers_go_on_above_every_fence_and_later_jobs_are_said_lost(
    database: Database, objects: Objects
) -> None:
    going, ended, fresh = (contract.new_id("job") for _ in range(3))
    async with database.transaction() as session:
        store = Store(session)
        await store.save(replace(running_job(), job_id=going))
        await store.save(replace(transitions.submitted(submitted(), START, ""), job_id=ended, state=State.CANCELLED))
        await store.save(replace(transitions.submitted(submitted(), START, ""), job_id=fresh))
    later = contract.new_id("job")
    for number in (1, 2, 7):
        fence(objects, going, number)
    fence(objects, ended, 9)
    fence(objects, later, 1)
    found = await recover(database, objects)
    assert found.raised == [Raised(going, "tenant_a", 7, 1)]
    assert found.lost == [later]
    async with database.transaction() as session:
        rows: dict[str, int] = dict(
            row for row in await session.execute(text("SELECT job_id, attempts FROM scheduler.jobs"))
        )
    assert rows == {going: 7, ended: 0, fresh: 0}
    assert (await recover(database, objects)).raised == []
    for job_id in (going, ended, later):
        objects.delete(f"jobs/{job_id}/")


def test_an_attempt_that_was_overtaken_is_tried_again_and_is_no_error_of_the_job() -> None:
    reason = EXIT_REASONS[Exit.FENCED]
    assert reason is EndReason.MACHINE_LOST
    assert reason.retries


async def test_what_the_log_holds_is_told_again_and_handled_once(
    kafka: str, database_of: Callable[[str], AbstractAsyncContextManager[Database]]
) -> None:
    began = datetime.now(UTC)
    async with database_of("gateway") as gateway, database_of("scheduler") as scheduler:
        jobs = [contract.new_id("job") for _ in range(3)]
        told = [
            envelope(events.JobCancelled(job_id=job_id, tenant_id="tenant_a"), source="scheduler") for job_id in jobs
        ]
        for one in told:
            await handle(GATEWAY, gateway, GatewayStore, one)
        publisher = Publisher(kafka, "test")
        try:
            assert await republish(gateway, publisher, began - timedelta(seconds=5)) == 3
            assert await republish(gateway, publisher, datetime.now(UTC) + timedelta(hours=1)) == 0
        finally:
            await publisher.stop()

        async def arrived() -> list[contract.Envelope]:
            return [one for one in await heard(kafka, contract.topic_of(events.JobCancelled)) if one.key in jobs]

        again = await arrived()
        assert [(one.id, one.source) for one in sorted(again, key=lambda one: one.id)] == [
            (one.id, one.source) for one in sorted(told, key=lambda one: one.id)
        ]
        handled: list[str] = []

        async def note(event: events.JobCancelled, _store: object, _now: datetime) -> list[object]:
            handled.append(event.job_id)
            return []

        for one in [*told, *again]:
            await handle({events.JobCancelled: note}, scheduler, lambda session: session, one)
        assert sorted(handled) == sorted(jobs)


async def test_groups_go_back_to_a_moment_and_never_forward(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    topic, group, idle = contract.new_id("topic"), contract.new_id("group"), contract.new_id("group")
    monkeypatch.setattr(contract, "TOPICS", (topic,))
    monkeypatch.setattr(contract, "OTLP_TOPIC", topic)
    monkeypatch.setattr("sskai.database.SERVICES", (group, idle))
    monkeypatch.setenv("SSKAI_KAFKA_BOOTSTRAP", kafka)
    await broker_admin.create_topics(kafka, [topic], partitions=1)
    publisher = Publisher(kafka, "test")
    producer = await publisher.start()
    stamps = []
    for number in range(4):
        record = await producer.send_and_wait(topic, value=str(number).encode())
        stamps.append(datetime.fromtimestamp(record.timestamp / 1000, UTC))
        await wait_for(lambda: datetime.now(UTC) > stamps[-1] + timedelta(milliseconds=2))
    async with connected(kafka) as broker:
        (partition,) = await broker.ends([topic])
        await broker.move(group, {partition: 3})
        assert await command._rewind(stamps[1]) == {group: 2}
        assert (await broker.groups([group]))[group].committed == {partition: 1}
        assert await command._rewind(stamps[3]) == {group: 0}, "what was not read yet is not skipped"
        assert idle not in await broker.groups([idle])

    async def nothing(_incoming: bus.Incoming) -> None:
        return None

    member = bus.Consumer(kafka, group, [topic], nothing, publisher)
    stopping = asyncio.Event()
    running = asyncio.create_task(member.run(stopping))
    await asyncio.wait_for(member.ready.wait(), 30)
    try:
        with pytest.raises(typer.Exit):
            await command._rewind(stamps[0])
    finally:
        stopping.set()
        await running
        await publisher.stop()


async def test_a_time_that_is_none_and_a_broker_that_is_away_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    (nobody,) = free_ports(1)
    monkeypatch.setenv("SSKAI_KAFKA_BOOTSTRAP", f"127.0.0.1:{nobody}")
    with pytest.raises(typer.Exit) as wrong:
        command._moment("yesterday")
    assert wrong.value.exit_code == 2
    with pytest.raises(typer.Exit) as away:
        await command._rewind(datetime.now(UTC))
    assert away.value.exit_code == 3
    assert len(SERVICES) == 6
