"""The cloud's messages from their sources to the outbox: each told once, in one transaction with how far was read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import boto3
import httpx2
import pytest
from moto import mock_aws
from sqlalchemy import select

from services.monitor import loops
from services.monitor.notices import LocalCloud, Queue
from services.monitor.tables import NoticeRow
from sskai.database import Database
from sskai.events import v1 as events
from tests.monitor.test_interruptions import SPOT
from tests.monitor.test_life_of_a_job import told_by

SERVICE = "monitor"


class FakeCloud:
    """The local cloud's feed of messages, as HTTP."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.down = False

    def interrupt(self, id_: str, body: Any = None, notice_seconds: float = 3.0) -> None:
        sequence = len(self.messages) + 1
        self.messages.append(
            {"sequence": sequence, "notice_seconds": notice_seconds, "body": body or SPOT | {"id": id_}}
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


async def test_each_message_of_the_local_cloud_is_told_once(
    database: Database, fake: FakeCloud, cloud: LocalCloud
) -> None:
    fake.interrupt("one")
    await loops.read_local_cloud(database, cloud)
    fake.interrupt("one")  # the same message again, under a new number
    fake.interrupt("broken", body={"id": "x"})
    fake.interrupt("two", notice_seconds=2.5)
    await loops.read_local_cloud(database, cloud)
    await loops.read_local_cloud(database, cloud)
    told = await told_by(database)
    assert [(type(one), one.machine_id, one.notice_seconds, one.source) for one in told] == [  # type: ignore[attr-defined]
        (events.InterruptionNoticed, "i-1", 3.0, "local"),
        (events.InterruptionNoticed, "i-1", 2.5, "local"),
    ]
    async with database.transaction() as session:
        aside = (await session.scalars(select(NoticeRow).where(NoticeRow.problem.is_not(None)))).all()
    assert [(row.source, row.body) for row in aside] == [("local", '{"id": "x"}')]


async def test_a_cloud_that_is_away_is_asked_again(database: Database, fake: FakeCloud, cloud: LocalCloud) -> None:
    fake.interrupt("one")
    fake.down = True
    with pytest.raises(ConnectionError):
        await loops.read_local_cloud(database, cloud)
    fake.down = False
    await loops.read_local_cloud(database, cloud)
    assert len(await told_by(database)) == 1


@pytest.fixture
def sqs() -> Iterator[dict[str, str]]:
    """Options of a client of moto's SQS."""
    with mock_aws():
        yield {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}


async def test_a_queues_messages_are_deleted_once_they_are_told(database: Database, sqs: dict[str, str]) -> None:
    client = boto3.client("sqs", **sqs)  # type: ignore[call-overload]
    url = client.create_queue(QueueName="interruptions")["QueueUrl"]
    for body in (json.dumps(SPOT), json.dumps(SPOT), "no json", json.dumps(SPOT | {"id": "other"})):
        client.send_message(QueueUrl=url, MessageBody=body)
    queue = Queue(url, **sqs)
    while await asyncio.to_thread(_left, client, url):
        await loops.read_queue(database, queue)
    told = await told_by(database)
    assert [(one.machine_id, one.notice_seconds, one.source) for one in told] == [  # type: ignore[attr-defined]
        ("i-1", 120, "eventbridge"),
        ("i-1", 120, "eventbridge"),
    ]


def _left(client: Any, url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(attributes[name]) for name in names)
