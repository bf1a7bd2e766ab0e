"""S20: a broker with TLS, accounts and ACLs takes our clients, and of each account no more than it may."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

from sskai import broker_admin
from sskai.broker import Broker
from sskai.bus import Consumer, Incoming, Publisher
from sskai.events import v1 as events
from sskai.testing import envelope, wait_for
from tests.real.secure_kafka import SecureKafka, running

pytestmark = pytest.mark.real

ATTEMPTS, COSTS = "sskai.attempts.v1", "sskai.costs.v1"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    with running(tmp_path_factory.mktemp("kafka")) as broker:
        asyncio.run(broker_admin.create_topics(broker.broker("services"), [ATTEMPTS, COSTS]))
        broker.let_write("trainer-pods", ATTEMPTS)
        yield broker


async def publish(broker: Broker, message: events.AttemptStarted | events.BudgetRemoved) -> None:
    publisher = Publisher(broker, "test")
    try:
        await publisher.publish_all([envelope(message)])
    finally:
        await publisher.stop()


async def test_a_service_with_its_account_tells_and_hears(secure: SecureKafka) -> None:
    heard: list[Incoming] = []

    async def hear(incoming: Incoming) -> None:
        heard.append(incoming)

    publisher = Publisher(secure.broker("services"), "test")
    consumer = Consumer(secure.broker("services"), "group", [COSTS], hear, publisher)
    stopping = asyncio.Event()
    running_consumer = asyncio.create_task(consumer.run(stopping))
    await publish(secure.broker("services"), events.BudgetRemoved(budget_id="budget_1", tenant_id="tenant_1"))
    await wait_for(lambda: bool(heard), limit_seconds=30)
    stopping.set()
    await running_consumer
    await publisher.stop()
    assert [one.topic for one in heard] == [COSTS]


async def test_a_pod_tells_of_attempts_and_of_nothing_else(secure: SecureKafka) -> None:
    pod = secure.broker("trainer-pods")
    await publish(pod, events.AttemptStarted(job_id="job_1", tenant_id="tenant_1", attempt=1))
    with pytest.raises(TopicAuthorizationFailedError):
        await publish(pod, events.BudgetRemoved(budget_id="budget_2", tenant_id="tenant_1"))
    found = await broker_admin.read_records(secure.broker("services"), COSTS)
    assert not [one for one in found if one.key == b"budget_2"]
    assert await broker_admin.read_records(secure.broker("services"), ATTEMPTS)


@pytest.mark.parametrize("wrong", [{"password": "guessed"}, {"ca_pem": ""}], ids=lambda wrong: next(iter(wrong)))
async def test_without_the_password_or_the_authority_nothing_is_sent(
    secure: SecureKafka, wrong: dict[str, str]
) -> None:
    with pytest.raises(KafkaError):
        await publish(
            secure.broker("services", **wrong), events.BudgetRemoved(budget_id="budget_3", tenant_id="tenant_1")
        )
