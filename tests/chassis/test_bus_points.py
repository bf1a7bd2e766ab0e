"""A record that has to be set aside, on a real Kafka, while that goes wrong in every way."""

from __future__ import annotations

from contextlib import suppress

import pytest

from sskai import broker_admin, contract
from sskai.bus import Consumer, Incoming, Publisher
from sskai.events import v1 as events
from sskai.failpoints import Action
from sskai.testing import envelope, wait_for
from tests.chassis.test_bus import TOPIC, consuming
from tests.reliability.matrix import Crash
from tests.reliability.strikes import ENDS, SAYS_NO, each, struck


# Not SKIP: a broker that loses what all of its copies acknowledged is beyond us.
@pytest.mark.parametrize("action", each(*SAYS_NO, *ENDS))
async def test_a_poison_record_is_set_aside_whatever_goes_wrong(kafka: str, action: Action) -> None:
    """It is never lost and never handled, and the record behind it waits until it is set aside."""
    key, group = contract.new_id("job"), contract.new_id("group")
    handled: list[str] = []

    async def handle(incoming: Incoming) -> None:
        if incoming.key != key.encode():
            return  # of another test; one that cannot be decoded would be set aside, and meet the fault
        event = contract.decode(incoming.value, incoming.headers)
        if isinstance(event.message, events.JobHeld):
            raise contract.ForeignEventError("of another tenant")
        handled.append(type(event.message).__name__)

    publisher = Publisher(kafka, "test")
    try:
        await publisher.publish_all([envelope(events.JobHeld(job_id=key)), envelope(events.JobRequeued(job_id=key))])
        with struck("broker.set_aside", action) as fault:
            if action in ENDS:
                await _die(kafka, group, handle, publisher, fault)
                assert handled == [], "nobody goes past a record that is not set aside"
            async with consuming(kafka, group, handle, publisher):
                await wait_for(lambda: handled, limit_seconds=30)
    finally:
        await publisher.stop()
    assert handled == ["JobRequeued"]
    letters = await broker_admin.read_dead_letters(kafka, TOPIC, limit=1000)
    reasons = [dict(letter.headers)["dlq_reason"] for letter in letters if letter.key == key.encode()]
    # Once too often harms nobody: a letter is read by a person.
    twice = action in (Action.RAISE_AFTER, Action.KILL_AFTER)
    assert reasons == [b"foreign"] * (2 if twice else 1)


async def _die(kafka: str, group: str, handle, publisher: Publisher, fault) -> None:
    """A member of the group, until its process is no more; the broker notices at once, as of a connection that ends."""
    member: Consumer | None = None
    with pytest.raises(Crash):
        async with consuming(kafka, group, handle, publisher) as member:
            await wait_for(lambda: fault.crossings)
    assert member is not None
    assert member._consumer is not None
    with suppress(Crash):
        await member._consumer.stop()
