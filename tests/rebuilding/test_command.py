"""`sskai rebuild` on a real broker and a real database: it finds what was changed by hand, and puts it right."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition
from sqlalchemy import text
from typer.testing import CliRunner

from services.gateway import derived
from services.gateway.handlers import HANDLERS
from services.gateway.settings import Settings
from services.gateway.store import Store
from sskai import contract, delivery
from sskai.broker_admin import connected
from sskai.broker_log import LogError, opened
from sskai.bus import Consumer, Incoming, Publisher
from sskai.cli.program import app
from sskai.database import Database
from sskai.events import v1 as events
from sskai.rebuilding.command import Report, Wish, rebuild
from sskai.rebuilding.handled import Handled
from sskai.rebuilding.scratch import connect
from sskai.testing import envelope, wait_for
from tools.histories import FOLDER, History

pytestmark = pytest.mark.timeout(300)  # a broker, a database and their schemas, on a machine that others use, too
SERVICE = "gateway"
HISTORY = min(FOLDER.glob("*/simulation-*"))


class Installation:
    """A gateway that handled a history, and is stopped; the broker has it all."""

    def __init__(self, kafka: str, database: Database, handled: list[Incoming]) -> None:
        self.kafka, self.database, self.handled = kafka, database, handled
        self.settings = Settings(database_url=database.url, kafka_bootstrap=kafka)

    async def rebuild(self, **wish: Any) -> Report:
        return await rebuild(derived.projection(self.settings), self.settings, Wish(**wish))

    async def sql(self, statement: str) -> list[Any]:
        async with self.database.transaction() as session:
            result = await session.execute(text(statement))
            return list(result.all()) if result.returns_rows else []

    async def place(self, event: contract.Envelope) -> Incoming:
        """Where the broker has it now."""
        record = contract.encode(event)
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka)
        await producer.start()
        at = await producer.send_and_wait(record.topic, value=record.value, key=record.key, headers=record.headers)
        await producer.stop()
        return Incoming(record.topic, at.partition, at.offset, record.key, record.value, record.headers)

    async def handled_up_to(self, last: Incoming) -> tuple[list[int], list[int]]:
        """Offsets of the records of its key that count as handled when the group has read it, and of late ones."""
        committed = {TopicPartition(last.topic, last.partition): last.offset + 1}
        async with (
            await connect(self.database.url) as stored,
            opened(self.kafka, [last.topic + contract.DEAD_LETTER_SUFFIX], max_records=100_000) as dead,
            opened(self.kafka, [last.topic], max_records=100_000) as log,
        ):
            handled = await Handled.at(stored, SERVICE, committed)
            await handled.leave_out(dead)
            offsets = [one.offset async for one in handled.of(log) if one.key == last.key]
            return offsets, [one.offset for one in await handled.late()]

    async def publish(self, *records: Incoming) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka)
        await producer.start()
        for record in records:
            await producer.send(record.topic, value=record.value, key=record.key, headers=record.headers)
        await producer.stop()


def fresh_ids(records: list[Incoming]) -> list[Incoming]:
    """As other tests have not told them on the same broker."""
    unique = contract.new_id("evt")[-12:].encode()
    return [
        replace(one, headers=[(name, value + unique if name == "ce_id" else value) for name, value in one.headers])
        for one in records
    ]


@pytest.fixture
async def empty(
    kafka: str, database_of: Callable[[str], AbstractAsyncContextManager[Database]]
) -> AsyncIterator[Installation]:
    """A gateway that has handled nothing."""
    async with database_of(SERVICE) as database:
        yield Installation(kafka, database, [])


@pytest.fixture
async def installation(empty: Installation) -> Installation:
    empty.handled = fresh_ids(History.load(HISTORY).read_by(derived.projection(Settings())))
    await empty.publish(*empty.handled)
    for record in empty.handled:
        event = contract.decode(record.value, record.headers)
        if type(event.message) in HANDLERS:
            await delivery.handle(empty.database, HANDLERS, Store, event, datetime.now(UTC))
    return empty


def named(report: Report, table: str) -> Any:
    return next(one for one in report.tables if one.table == table)


@pytest.mark.heavy
async def test_what_stands_is_what_the_log_makes_until_somebody_changes_it(installation: Installation) -> None:
    sound = await installation.rebuild()
    assert sound.equal, [one.examples for one in sound.tables]
    types = {message.DESCRIPTOR.full_name.encode() for message in HANDLERS}
    told = [dict(one.headers) for one in installation.handled]
    assert sound.events.handled == len({one["ce_id"] for one in told if one["ce_type"] in types})
    assert named(sound, "jobs").stored_rows > 0
    assert "keys" in sound.left_out
    await installation.sql("UPDATE gateway.jobs SET state = 'running', spent_nano_usd = 1")
    await installation.sql("DELETE FROM gateway.receipts")
    await installation.sql("INSERT INTO gateway.spends VALUES ('job_nobodys', 1, 'tenant_a', 5)")
    found = await installation.rebuild()
    assert not found.applied
    assert named(found, "jobs").differing == named(found, "jobs").stored_rows
    assert set(named(found, "jobs").examples[0].columns) <= {"state", "spent_nano_usd"}
    assert named(found, "receipts").only_rebuilt == named(sound, "receipts").stored_rows > 0
    assert (named(found, "spends").only_stored, named(found, "spends").examples[0].kind) == (1, "only-stored")
    assert not await installation.sql("SELECT 1 FROM gateway.receipts")
    databases = await installation.sql("SELECT datname FROM pg_database WHERE datname LIKE 'sskai_rebuild%'")
    assert not databases


@pytest.mark.heavy
async def test_rebuilt_rows_take_the_place_of_damaged_ones_and_what_is_not_derived_stays(
    installation: Installation,
) -> None:
    before = await installation.rebuild()
    kept = await installation.sql("SELECT job_id, updated_at FROM gateway.jobs ORDER BY 1")
    numbers = await installation.sql("SELECT event->>'id', id FROM gateway.events ORDER BY id")
    await installation.sql("UPDATE gateway.jobs SET state = 'running', view = '{}', updated_at = updated_at")
    await installation.sql("DELETE FROM gateway.marks")
    await installation.sql(f"DELETE FROM gateway.events WHERE id = {numbers[-1][1]}")
    await installation.sql("INSERT INTO gateway.spends VALUES ('job_nobodys', 1, 'tenant_a', 5)")
    await installation.sql("INSERT INTO gateway.tenants VALUES ('tenant_a', 'A', now())")
    applied = await installation.rebuild(apply=True)
    assert (applied.applied, applied.refused) == (True, [])
    after = await installation.rebuild()
    wrong = {one.table for one in after.tables if not one.equal}
    assert wrong == {"spends"}, "a row that no event makes stays, unless it is told to go"
    assert (await installation.rebuild(apply=True, remove=True)).applied
    healed = await installation.rebuild()
    assert healed.equal
    assert {one.table: one.rebuilt_sha256 for one in healed.tables} == {
        one.table: one.stored_sha256 for one in before.tables
    }
    assert await installation.sql("SELECT job_id, updated_at FROM gateway.jobs ORDER BY 1") == kept
    log = await installation.sql("SELECT event->>'id', id FROM gateway.events ORDER BY id")
    assert log[:-1] == numbers[:-1]
    assert log[-1][0] == numbers[-1][0]
    assert log[-1][1] > numbers[-1][1], "whoever follows the log sees what was missing"
    assert await installation.sql("SELECT tenant_id FROM gateway.tenants WHERE tenant_id = 'tenant_a'")
    assert not await installation.sql("SELECT 1 FROM gateway.outbox"), "nothing was told"


@pytest.mark.heavy
async def test_nothing_is_applied_where_the_log_lacks_what_was_handled(installation: Installation) -> None:
    cancelled = events.JobCancelled(job_id=contract.new_id("job"), tenant_id="tenant_a")
    lost = envelope(cancelled, source="scheduler")
    await delivery.handle(installation.database, HANDLERS, Store, lost, datetime.now(UTC))
    report = await installation.rebuild(apply=True, remove=True)
    assert not report.applied
    assert report.refused
    assert any(lost.id in why for why in report.short)
    assert named(report, "jobs").only_stored == 1


@pytest.mark.heavy
async def test_what_is_on_its_way_is_no_difference(installation: Installation) -> None:
    """An API that answered has its row; its event waits in the outbox, or on the topic."""
    job_id = contract.new_id("job")
    submitted = events.JobSubmitted(job_id=job_id, tenant_id="tenant_a", spec=events.JobSpec(name="bot"))
    submitted.submitted_at.GetCurrentTime()
    async with installation.database.transaction() as session:
        await Store(session).submit_job(submitted, "", datetime.now(UTC), count_to=5)
        await delivery.tell(session, submitted)
    waiting = await installation.rebuild(apply=True, remove=True)
    assert (waiting.applied, named(waiting, "jobs").moving) == (True, 1)
    publisher = Publisher(installation.kafka, "test")
    await delivery.Relay(installation.database, publisher).publish_batch()
    await publisher.stop()
    told = await installation.rebuild(apply=True, remove=True)
    assert (told.applied, named(told, "jobs").moving, told.short) == (True, 1, [])
    assert told.not_yet_handled >= 1
    assert await installation.sql(f"SELECT 1 FROM gateway.jobs WHERE job_id = '{job_id}'")


async def test_a_dead_letter_is_left_out_where_it_stood_and_handled_where_it_was_redriven(
    empty: Installation,
) -> None:
    job_id = contract.new_id("job")
    failed = envelope(events.JobFailed(job_id=job_id, tenant_id="tenant_a", reason="error"), source="scheduler")
    first = await empty.place(failed)
    publisher = Publisher(empty.kafka, SERVICE)
    await publisher.set_aside(first, "handler-failed", "a test")
    await publisher.stop()
    second = await empty.place(failed)
    assert (await empty.handled_up_to(first))[0] == []
    offsets, late = await empty.handled_up_to(second)
    assert (offsets, late) == ([second.offset], [])
    await delivery.handle(empty.database, HANDLERS, Store, failed, datetime.now(UTC))
    offsets, late = await empty.handled_up_to(first)
    assert late == [first.offset], "what the inbox knows was handled, whatever a member set aside"


@pytest.mark.heavy
async def test_a_running_service_keeps_its_state(installation: Installation) -> None:
    stopping, publisher = asyncio.Event(), Publisher(installation.kafka, "test")

    async def nothing(_record: Incoming) -> None: ...

    topic = f"rebuild.{contract.new_id('t')}"
    await create(installation.kafka, topic)
    consumer = Consumer(installation.kafka, SERVICE, [topic], nothing, publisher)
    running = asyncio.create_task(consumer.run(stopping))
    try:
        await asyncio.wait_for(consumer.ready.wait(), 30)
        report = await installation.rebuild(apply=True)
        assert not report.applied
        assert "stop it first" in report.refused[0]
    finally:
        stopping.set()
        await running

    async def left() -> bool:
        async with connected(installation.kafka) as admin:
            return not (await admin.groups([SERVICE]))[SERVICE].members

    await wait_for(left, limit_seconds=30)


async def create(kafka: str, topic: str, **settings: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 2, 1, topic_configs=settings)])
    await admin.close()


async def test_a_log_is_read_in_order_to_its_end_and_says_what_it_lacks(kafka: str) -> None:
    whole, cut, compacted = (f"rebuild.{contract.new_id(kind)}" for kind in ("whole", "cut", "compacted"))
    await create(kafka, whole)
    await create(kafka, cut)
    await create(kafka, compacted, **{"cleanup.policy": "compact"})
    producer = AIOKafkaProducer(bootstrap_servers=kafka)
    await producer.start()
    for number in range(3_000):
        await producer.send(whole, value=str(number).encode(), partition=number % 2, timestamp_ms=1_000_000 + number)
    for number in range(4):
        await producer.send_and_wait(cut, value=str(number).encode(), partition=0)
    await producer.stop()
    async with opened(kafka, [whole], max_records=3_000) as log:
        assert [int(one.value) async for one in log.records()] == [*range(3_000)]
        assert (log.read, log.bounds.short) == (3_000, [])
    with pytest.raises(LogError, match="more than 2999"):
        async with opened(kafka, [whole], max_records=2_999):
            pass
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_records({TopicPartition(cut, 0): RecordsToDelete(before_offset=3)})
    await admin.close()
    async with opened(kafka, [cut, compacted, "rebuild.absent"], max_records=10) as log:
        assert [one.value async for one in log.records()] == [b"3"]
        assert [why.split(":")[0] for why in log.bounds.short] == ["rebuild.absent", compacted, cut]
        assert "the oldest 3 records are gone" in log.bounds.short[2]


@pytest.mark.heavy
def test_the_command_says_what_it_found_and_asks_before_it_replaces(installation: Installation) -> None:
    environment = {
        "SSKAI_DATABASE_URL": installation.database.url,
        "SSKAI_KAFKA_BOOTSTRAP": installation.kafka,
        "PYTHONPATH": os.getcwd(),
    }
    runner = CliRunner()
    found = runner.invoke(app, ["rebuild", "gateway", "--json"], env=environment)
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["equal"]
    words = runner.invoke(app, ["rebuild", "gateway"], env=environment)
    assert "Not made of events alone, and left out: answers" in words.stdout
    unasked = runner.invoke(app, ["rebuild", "gateway", "--apply"], env=environment)
    assert unasked.exit_code == 2
    assert runner.invoke(app, ["rebuild", "gatway"], env=environment).exit_code == 2
    assert runner.invoke(app, ["rebuild", "gateway", "--remove"], env=environment).exit_code == 2
