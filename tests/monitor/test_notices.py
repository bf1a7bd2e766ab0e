"""The cloud's messages from their sources to the outbox: each told once, in one transaction with how far was read."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import httpx2
import pytest
from google.protobuf.message import Message
from sqlalchemy import select, text, update

from services.monitor import reading, sources
from services.monitor.handlers import HANDLERS
from services.monitor.metrics import NOTICES
from services.monitor.reading import MAX_TIMES, Reader
from services.monitor.sources import LocalCloud, Queue, Received, SourceAwayError
from services.monitor.store import Store
from services.monitor.tables import MachineRow, NoticeRow, SourceRow
from sskai.database import Database
from sskai.events import v1 as events
from sskai.failpoints import Action
from sskai.testing import handle, wait_for
from tests.monitor.mailbox import Mailbox
from tests.monitor.messages import message
from tests.monitor.test_life_of_a_job import told_by
from tests.reliability.strikes import SAYS_NO, each, struck

SERVICE = "monitor"
NOTICED = "spot_interruption_warning"


class FakeCloud:
    """The local cloud's feed of messages, as HTTP."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.down = False

    def interrupt(self, id_: str, body: Any = None, notice_seconds: float = 3.0) -> None:
        sequence = len(self.messages) + 1
        self.messages.append(
            {
                "sequence": sequence,
                "notice_seconds": notice_seconds,
                "body": body or message(NOTICED, f"m-{id_}", id=id_),
            }
        )

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if self.down:
            return httpx2.Response(503)
        assert request.headers["authorization"] == "Bearer secret"
        after = int(request.url.params["after"])
        return httpx2.Response(200, json={"messages": [one for one in self.messages if one["sequence"] > after]})


@pytest.fixture
def fake() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
def cloud(fake: FakeCloud) -> LocalCloud:
    return LocalCloud("http://cloud", "secret", transport=httpx2.MockTransport(fake.answer))


@pytest.fixture
def reader(database: Database) -> Reader:
    return Reader(database, lead_seconds=1800)


def said(told: list[Message]) -> list[tuple[str, ...]]:
    """Machines and what is told of them."""
    return [
        (one.machine_id, one.action, one.source)
        if isinstance(one, events.InterruptionNoticed)
        else (one.machine_id, one.reason)  # type: ignore[attr-defined]
        for one in told
    ]


async def test_each_message_of_the_local_cloud_is_told_once(
    database: Database, reader: Reader, fake: FakeCloud, cloud: LocalCloud
) -> None:
    fake.interrupt("one")
    await reader.read_local_cloud(cloud)
    fake.interrupt("one")  # the same message again, under a new number
    fake.interrupt("broken", body={"id": "x"})
    fake.interrupt("two", notice_seconds=2.5)
    await reader.read_local_cloud(cloud)
    await reader.read_local_cloud(cloud)
    told = await told_by(database)
    assert [(type(one), one.machine_id, one.notice_seconds, one.source) for one in told] == [  # type: ignore[attr-defined]
        (events.InterruptionNoticed, "m-one", 3.0, "local"),
        (events.InterruptionNoticed, "m-two", 2.5, "local"),
    ]
    async with database.transaction() as session:
        aside = (await session.scalars(select(NoticeRow).where(NoticeRow.problem.is_not(None)))).all()
    assert [(row.source, row.body) for row in aside] == [("local", '{"id": "x"}')]


async def test_a_cloud_that_is_away_is_asked_again(
    database: Database, reader: Reader, fake: FakeCloud, cloud: LocalCloud
) -> None:
    fake.interrupt("one")
    fake.down = True
    with pytest.raises(ConnectionError):
        await reader.read_local_cloud(cloud)
    assert "does not answer" in (await state_of(database, "local")).problem
    fake.down = False
    await reader.read_local_cloud(cloud)
    assert len(await told_by(database)) == 1
    after = await state_of(database, "local")
    assert (after.problem, after.failing_since) == (None, None)


async def state_of(database: Database, source: str) -> Any:
    async with database.transaction() as session:
        return await session.get_one(SourceRow, source)


# The queue: moto's server, spoken to over HTTP as SQS and EventBridge are.


async def launched(database: Database, *machine_ids: str, job_id: str = "job_1") -> None:
    """A pod of ours is on the machine; of several, a gang."""
    names = {"job_id": job_id, "tenant_id": "A", "attempt": 1}
    members = machine_ids if len(machine_ids) > 1 else ()
    name = job_id if members else machine_ids[0]
    await handle(HANDLERS, database, Store, events.AttemptStarted(**names, machine_id=name, member_ids=members))


async def test_a_queues_messages_are_deleted_once_they_are_told(
    database: Database, reader: Reader, mailbox: Mailbox
) -> None:
    await launched(database, "i-1")
    await launched(database, "i-2", "i-3", job_id="job_2")
    mailbox.send(
        message(NOTICED, "i-1"),
        message(NOTICED, "i-1"),
        message(NOTICED, "i-1", id="other"),
        "no json",
        message("rebalance_recommendation", "i-3"),
        message("instance_state_change", "i-2"),
        message("spot_request_fulfillment", "i-1"),
    )
    await reader.read_queue(mailbox.queue, 0)
    assert sorted(said(await told_by(database))) == [
        ("i-1", "terminate", "eventbridge"),
        ("i-2", "shutting-down"),
        ("i-3", "rebalance", "eventbridge"),
    ]
    assert await mailbox.left() == 0


async def test_a_rule_of_eventbridge_leads_here(
    database: Database, reader: Reader, aws: dict[str, str], mailbox: Mailbox
) -> None:
    """The rule of docs/operations.md. EventBridge takes nobody's word for AWS's, so the bus and the source are ours."""
    await launched(database, "i-1")
    bus: Any = boto3.client("events", **aws)  # type: ignore[call-overload]
    pattern = {"source": ["test.ec2"], "detail-type": ["EC2 Spot Instance Interruption Warning"]}
    names = ["QueueArn"]
    arn = mailbox.sqs.get_queue_attributes(QueueUrl=mailbox.url, AttributeNames=names)["Attributes"]["QueueArn"]
    bus.put_rule(Name="interruptions", EventPattern=json.dumps(pattern))
    bus.put_targets(Rule="interruptions", Targets=[{"Id": "monitor", "Arn": arn}])
    body = message(NOTICED, "i-1")
    for kind in (body["detail-type"], "Something Else"):
        entry = {"Source": "test.ec2", "DetailType": kind, "Detail": json.dumps(body["detail"])}
        assert bus.put_events(Entries=[entry])["FailedEntryCount"] == 0
    assert await mailbox.left() == 1
    await reader.read_queue(mailbox.queue, 0)
    assert said(await told_by(database)) == [("i-1", "terminate", "eventbridge")]


async def test_a_strangers_machine_is_told_of_as_soon_as_it_is_ours(
    database: Database, reader: Reader, mailbox: Mailbox
) -> None:
    """A rule sees every machine of the account, and one of ours perhaps before its launch is known."""
    mailbox.send(message(NOTICED, "i-1"), message("instance_state_change", "i-stranger"))
    await reader.read_queue(mailbox.queue, 0)
    assert (await told_by(database), await mailbox.left()) == ([], 0)
    await launched(database, "i-1")
    assert said(await told_by(database)) == [("i-1", "terminate", "eventbridge")]
    async with database.transaction() as session:
        await session.execute(update(MachineRow).values(seen_at=datetime.now(UTC) - timedelta(hours=2)))
    await reader.forget()
    async with database.transaction() as session:
        assert (await session.scalars(select(MachineRow.machine_id))).all() == ["i-1"]


async def test_a_replicas_machine_is_known_by_what_it_costs(
    database: Database, reader: Reader, mailbox: Mailbox
) -> None:
    names = {"job_id": "ep_1", "endpoint_id": "ep_1", "tenant_id": "A"}
    await handle(HANDLERS, database, Store, events.SpendRecorded(**names, interval=1, machine_id="i-1"))
    mailbox.send(message(NOTICED, "i-1"))
    await reader.read_queue(mailbox.queue, 0)
    assert said(await told_by(database)) == [("i-1", "terminate", "eventbridge")]


async def test_what_the_cluster_said_first_is_not_said_again(
    database: Database, reader: Reader, mailbox: Mailbox
) -> None:
    await launched(database, "i-1")
    body = message(NOTICED, "i-1")
    at = datetime.fromisoformat(body["time"])
    noticed = events.InterruptionNoticed(
        machine_id="i-1", action="terminate", source="imds", noticed_at=at, terminates_at=at + timedelta(seconds=120)
    )
    await handle(HANDLERS, database, Store, noticed)
    mailbox.send(body)
    await reader.read_queue(mailbox.queue, 0)
    assert await told_by(database) == []


async def test_a_retirement_is_told_when_it_is_near(database: Database, mailbox: Mailbox) -> None:
    body = message("health_retirement")
    machine_id = body["detail"]["affectedEntities"][0]["entityValue"]
    ends_at = datetime(2026, 11, 1, 13, tzinfo=UTC)
    now = ends_at - timedelta(days=14)
    reader = Reader(database, lead_seconds=1800, clock=lambda: now)
    await launched(database, machine_id)
    mailbox.send(body)
    await reader.read_queue(mailbox.queue, 0)
    await reader.tell_due()
    assert await told_by(database) == []
    now = ends_at - timedelta(seconds=1800)
    await reader.tell_due()
    await reader.tell_due()
    assert said(await told_by(database)) == [(machine_id, "terminate", "eventbridge")]


async def test_a_message_that_cannot_be_handled_holds_up_no_other(
    database: Database, reader: Reader, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "HIDDEN_SECONDS", 0)  # it comes again at once
    async with database.transaction() as session:
        await session.execute(text("ALTER TABLE monitor.machines ADD CHECK (machine_id <> 'i-poison')"))
    await launched(database, "i-1")
    mailbox.send(message(NOTICED, "i-poison", id="poison"), message(NOTICED, "i-1"))
    for _ in range(MAX_TIMES):
        assert await mailbox.left() > 0
        messages = await asyncio.to_thread(mailbox.queue.receive, 0)
        handled = await reader._handle(mailbox.queue.source, messages)
        if handled:
            await asyncio.to_thread(mailbox.queue.delete, [one.handle for one in handled])
    assert await mailbox.left() == 0
    assert said(await told_by(database)) == [("i-1", "terminate", "eventbridge")]
    async with database.transaction() as session:
        [aside] = (await session.scalars(select(NoticeRow).where(NoticeRow.problem.is_not(None)))).all()
    assert f"not handled {MAX_TIMES} times" in (aside.problem or "")
    assert "i-poison" in (aside.body or "")


async def test_nothing_is_deleted_before_it_is_committed(
    database: Database, reader: Reader, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "HIDDEN_SECONDS", 1)
    await launched(database, "i-1")
    mailbox.send(message(NOTICED, "i-1"))
    async with database.transaction() as session:
        await session.execute(text("ALTER TABLE monitor.notices RENAME TO gone"))
    await reader.read_queue(mailbox.queue, 0)
    assert await mailbox.left() == 1
    async with database.transaction() as session:
        await session.execute(text("ALTER TABLE monitor.gone RENAME TO notices"))
    await reader.read_queue(mailbox.queue, 3)  # hidden for a second
    assert (len(await told_by(database)), await mailbox.left()) == (1, 0)


async def test_messages_stay_hidden_while_they_are_handled(mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "HIDDEN_SECONDS", 1)
    monkeypatch.setattr(reading, "RENEW_SECONDS", 0.2)
    mailbox.send(message(NOTICED, "i-1"))
    messages = await asyncio.to_thread(mailbox.queue.receive, 0)
    began = asyncio.get_running_loop().time()
    async with reading._held(mailbox.queue, messages):
        # Three times as long as it would be hidden without.
        assert await asyncio.to_thread(mailbox.queue.receive, 3) == []
    assert asyncio.get_running_loop().time() - began >= 2.5
    await wait_for(lambda: mailbox.queue.receive(0))


@pytest.mark.parametrize("action", each(*SAYS_NO, Action.SKIP))
async def test_messages_are_told_once_whoever_cannot_hold_them(
    database: Database, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, action: Action
) -> None:
    """One that was not held is given to somebody else, who tells it; the first one finds that out."""
    monkeypatch.setattr(sources, "HIDDEN_SECONDS", 1)
    monkeypatch.setattr(reading, "RENEW_SECONDS", 0.2)
    await launched(database, "i-1")
    mailbox.send(message(NOTICED, "i-1"))
    slow, other = Reader(database, lead_seconds=1800), Reader(database, lead_seconds=1800)
    handle_at_once, told = slow._handle, list[Message]()

    async def handle_late(source: str, messages: list[Received]) -> list[Received]:
        await wait_for(lambda: fault.crossings)
        monkeypatch.setattr(reading, "RENEW_SECONDS", 60)
        await other.read_queue(mailbox.queue, 3)
        told.extend(await told_by(database))
        return await handle_at_once(source, messages)

    slow._handle = handle_late
    with struck("queue.hold", action, seconds=0.05) as fault:
        await slow.read_queue(mailbox.queue, 0)
    assert len(told) == 1, "what is not held is given to another one"
    assert len(told + await told_by(database)) == 1
    assert await mailbox.left() == 0


async def test_unknown_kinds_are_kept_once_and_counted(database: Database, reader: Reader, mailbox: Mailbox) -> None:
    outcome = NOTICES.labels(source="eventbridge", outcome="unknown-kind")
    before = outcome._value.get()
    blue = {"detail-type": "EC2 Instance Painted Blue"}
    mailbox.send(message(NOTICED, "i-1", id="a", **blue), message(NOTICED, "i-1", id="b", **blue))
    await reader.read_queue(mailbox.queue, 0)
    assert outcome._value.get() == before + 2
    async with database.transaction() as session:
        [aside] = (await session.scalars(select(NoticeRow))).all()
    assert aside.problem == "an unknown kind of message: EC2 Instance Painted Blue"
    assert await mailbox.left() == 0


async def test_more_than_one_batch_is_read_in_one_turn(database: Database, reader: Reader, mailbox: Mailbox) -> None:
    await launched(database, *[f"i-{number}" for number in range(23)])
    mailbox.send(*[message(NOTICED, f"i-{number}", id=f"m{number}") for number in range(23)])
    await reader.read_queue(mailbox.queue, 0)
    assert (len(await told_by(database)), await mailbox.left()) == (23, 0)


async def test_a_queue_that_is_away_says_so_and_what_to_do(
    database: Database, reader: Reader, aws: dict[str, str], mailbox: Mailbox
) -> None:
    missing = Queue(mailbox.url + "-not", **aws)
    with pytest.raises(SourceAwayError, match="SSKAI_INTERRUPTION_QUEUE_URL names no queue"):
        await reader.read_queue(missing, 0)
    since = (await state_of(database, missing.name)).failing_since
    with pytest.raises(SourceAwayError):
        await reader.read_queue(missing, 0)
    state = await state_of(database, missing.name)
    assert (state.failing_since, state.answered_at) == (since, None), "since when, not when last"
    nobody = Queue("http://127.0.0.1:9/1/q", **aws | {"endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(SourceAwayError, match="does not answer"):
        await reader.read_queue(nobody, 0)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/interruptions", "eu-west-1"),
        ("https://us-gov-west-1.queue.amazonaws.com/123456789012/interruptions", "us-gov-west-1"),
    ],
)
def test_a_queues_region_is_in_its_url(url: str, region: str) -> None:
    queue = Queue(url, aws_access_key_id="test", aws_secret_access_key="test")
    assert queue._sqs.meta.region_name == region
