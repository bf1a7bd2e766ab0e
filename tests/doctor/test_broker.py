"""The broker as the doctor sees it: a real one, sound and with something missing; settings that lose events."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sskai import broker_admin, bus, contract
from sskai.broker_admin import Topic, connected
from sskai.database import SERVICES
from sskai.doctor import Finding, Findings, broker
from sskai.doctor.settings import Settings
from sskai.local.processes import free_ports
from sskai.testing import wait_for
from tests.doctor.found import states

SOUND = {
    "retention.ms": "604800000", "max.message.bytes": "1048588", "min.insync.replicas": "2", "cleanup.policy": "delete",
}  # fmt: skip


async def look(kafka: str) -> dict[str, Finding]:
    found = await broker.look(Settings(kafka_bootstrap=kafka), datetime.now(UTC))
    return {one.check: one for one in found}


async def test_a_broker_with_the_contracts_topics_is_sound_and_says_where_it_is(kafka: str) -> None:
    found = await look(kafka)
    assert found["reachable"].says == kafka
    for check in ("reachable", "topics", "partitions", "copies", "retention", "message size", "offsets"):
        assert found[check].state == "ok", found[check]


async def test_a_topic_that_is_missing_is_named(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "NAMES", (*broker.NAMES, "sskai.nothing.v1"))
    found = (await look(kafka))["topics"]
    assert found.state == "fail"
    assert "sskai.nothing.v1" in found.says
    assert "sskai.local.prepare topics" in found.mend


async def test_a_broker_that_does_not_answer_is_one_finding_within_its_time() -> None:
    (nobody,) = free_ports(1)
    found = await asyncio.wait_for(look(f"127.0.0.1:{nobody}"), 30)
    assert states(found.values()) == {"reachable": "fail"}
    assert "SSKAI_KAFKA_BOOTSTRAP" in found["reachable"].mend


async def test_who_reads_and_how_far_behind_is_seen(kafka: str) -> None:
    handled = asyncio.Event()

    async def never(_incoming: bus.Incoming) -> None:
        await handled.wait()

    publisher = bus.Publisher(kafka, "test")
    member = bus.Consumer(kafka, "optimizer", ["sskai.plans.v1"], never, publisher)
    stopping = asyncio.Event()
    running = asyncio.create_task(member.run(stopping))
    await asyncio.wait_for(member.ready.wait(), 30)
    try:

        async def stable() -> bool:
            async with connected(kafka) as one:
                group = (await one.groups(["optimizer"])).get("optimizer")
            return group is not None and group.state == "Stable" and group.members == 1

        await wait_for(stable, limit_seconds=20)
        async with connected(kafka) as one:
            partitions = await one.ends(["sskai.plans.v1"])
            with pytest.raises(ValueError, match="has 1 members: stop the service first"):
                await one.move("optimizer", partitions)
        assert "group optimizer" not in await look(kafka)
        assert (await look(kafka))["group gateway"].state == "fail"
    finally:
        handled.set()
        stopping.set()
        await running
        await publisher.stop()


async def test_a_group_that_fell_behind_is_counted(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    group, topic = contract.new_id("group"), contract.new_id("topic")
    monkeypatch.setattr(broker, "SERVICES", (group,))
    monkeypatch.setattr(broker, "NAMES", (topic,))
    monkeypatch.setattr(broker, "LAG_WARNING", 2)
    await broker_admin.create_topics(kafka, [topic], partitions=1)
    publisher = bus.Publisher(kafka, "test")
    producer = await publisher.start()
    blocked = asyncio.Event()

    async def handle(incoming: bus.Incoming) -> None:
        if incoming.offset:
            await blocked.wait()

    member = bus.Consumer(kafka, group, [topic], handle, publisher)
    stopping = asyncio.Event()
    running = asyncio.create_task(member.run(stopping))
    try:
        for _ in range(5):
            await producer.send_and_wait(topic, value=b"1")

        async def behind() -> bool:
            found = (await look(kafka)).get(f"group {group}")
            return found is not None and found.state == "warn" and found.says == "4 events behind"

        await wait_for(behind, limit_seconds=30)
    finally:
        blocked.set()
        stopping.set()
        await running
        await publisher.stop()


async def test_dead_letters_of_today_are_counted(kafka: str) -> None:
    publisher = bus.Publisher(kafka, "test")
    await publisher.set_aside(bus.Incoming("sskai.models.v1", 0, 0, b"k", b"v"), "undecodable", "made on purpose")
    await publisher.stop()
    found = (await look(kafka))["dead letters"]
    assert found.state == "warn"
    assert "on sskai.models.v1.dlq in a day" in found.says
    first = found.says.partition(" on ")[2].partition(".dlq")[0]  # others may have set records aside on this broker
    assert f"sskai dlq list {first}`" in found.mend


def topics(**changed: str) -> dict[str, Topic]:
    kinds = (*broker.NAMES, *broker.LETTERS)
    return {
        name: Topic(name, 4, 3, 3, 0, SOUND | {key.replace("_", "."): one for key, one in changed.items()})
        for name in kinds
    }


def judged(found: dict[str, Topic], brokers: int = 3) -> dict[str, str]:
    said = Findings("broker")
    broker.judge_topics(said, found, brokers)
    return states(said.found)


def test_three_copies_of_which_two_must_be_written_are_sound() -> None:
    assert set(judged(topics()).values()) == {"ok"}


@pytest.mark.parametrize(
    ("setting", "check", "state"),
    [
        ({"cleanup_policy": "compact"}, "retention", "fail"),
        ({"retention_ms": "3600000"}, "retention", "warn"),
        ({"retention_ms": "-1"}, "retention", "warn"),
        ({"max_message_bytes": "900000"}, "message size", "fail"),
        ({"min_insync_replicas": "1"}, "copies", "warn"),
        ({"min_insync_replicas": "3"}, "copies", "warn"),
        ({"min_insync_replicas": "4"}, "copies", "fail"),
        ({"unclean_leader_election_enable": "true"}, "elections", "warn"),
    ],
)
def test_a_setting_that_loses_events_is_found(setting: dict[str, str], check: str, state: str) -> None:
    found = judged(topics(**setting))
    assert found.pop(check) == state
    assert set(found.values()) <= {"ok"}


def test_fewer_copies_than_brokers_and_unequal_partitions_are_said() -> None:
    first, *_ = broker.NAMES
    unequal = topics() | {first: replace(topics()[first], partitions=12)}
    assert judged(unequal)["partitions"] == "warn"
    single = {name: replace(one, replicas=1, in_sync=1) for name, one in topics(min_insync_replicas="1").items()}
    assert judged(single)["copies"] == "warn"
    assert judged(single, brokers=1)["copies"] == "ok"
    leaderless = topics() | {first: replace(topics()[first], leaderless=1)}
    assert judged(leaderless)["copies"] == "fail"


def test_every_service_is_a_group() -> None:
    assert SERVICES == broker.SERVICES
