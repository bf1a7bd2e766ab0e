"""The cloud's words: every message that AWS documents is understood, anything else never breaks the door."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.aws_interruptions import MalformedError, parse
from sskai.contract import moment
from sskai.events import v1 as events
from tests.monitor import messages

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)


def message(kind: str, detail: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "version": "0",
        "id": "12345678-1234-1234-1234-123456789012",
        "detail-type": kind,
        "source": "aws.ec2",
        "account": "123456789012",
        "time": "2026-11-01T12:00:00Z",
        "region": "us-east-2",
        "resources": ["arn:aws:ec2:us-east-2a:instance/i-1"],
        "detail": detail,
    } | changes


SPOT = message("EC2 Spot Instance Interruption Warning", {"instance-id": "i-1", "instance-action": "terminate"})
HEALTH = {
    "service": "EC2",
    "eventTypeCategory": "scheduledChange",
    "eventTypeCode": "AWS_EC2_PERSISTENT_INSTANCE_RETIREMENT_SCHEDULED",
    "startTime": "Sun, 01 Nov 2026 13:00:00 GMT",
    "affectedEntities": [{"entityValue": "i-1"}, {"entityValue": "i-2"}],
}


def test_a_spot_warning_leaves_two_minutes() -> None:
    notice = parse(json.dumps(SPOT), source="eventbridge")
    [fact] = notice.facts
    assert isinstance(fact, events.InterruptionNoticed)
    assert (fact.machine_id, fact.action, fact.notice_seconds, fact.source) == ("i-1", "terminate", 120, "eventbridge")
    assert moment(fact.noticed_at) == AT
    assert (moment(fact.terminates_at) - AT).total_seconds() == 120


def test_a_sender_that_knows_better_says_how_long() -> None:
    [fact] = parse(SPOT, source="local", notice_seconds=4.5).facts
    assert isinstance(fact, events.InterruptionNoticed)
    assert fact.notice_seconds == 4.5
    assert (moment(fact.terminates_at) - AT).total_seconds() == 4.5


def test_a_rebalance_recommendation_names_no_time() -> None:
    [fact] = parse(message("EC2 Instance Rebalance Recommendation", {"instance-id": "i-1"}), source="s").facts
    assert isinstance(fact, events.InterruptionNoticed)
    assert (fact.action, fact.notice_seconds, fact.HasField("terminates_at")) == ("rebalance", 0, False)


@pytest.mark.parametrize(
    ("state", "lost"),
    [("pending", 0), ("running", 0), ("stopping", 1), ("stopped", 1), ("shutting-down", 1), ("terminated", 1)],
)
def test_a_state_change_tells_a_loss_or_nothing(state: str, lost: int) -> None:
    detail = {"instance-id": "i-1", "state": state}
    facts = parse(message("EC2 Instance State-change Notification", detail), source="s").facts
    assert facts == [events.MachineLost(machine_id="i-1", reason=state, lost_at=fact.lost_at) for fact in facts]
    assert len(facts) == lost


def test_a_scheduled_change_of_health_names_each_machine() -> None:
    facts = parse(message("AWS Health Event", HEALTH), source="s").facts
    assert [(fact.machine_id, fact.notice_seconds) for fact in facts] == [("i-1", 3600), ("i-2", 3600)]
    other = HEALTH | {"service": "RDS"}
    assert parse(message("AWS Health Event", other), source="s").facts == []


def test_an_unknown_kind_says_so() -> None:
    notice = parse(message("EC2 Instance Painted Blue", {"a": 1}), source="s")
    assert (notice.facts, notice.known) == ([], False)


NOTICED, LOST = events.InterruptionNoticed, events.MachineLost
FIRST, SECOND = "i-0b22a22eec53b9321", "i-0c33b33ffd64c0432"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("spot_interruption_warning", [(NOTICED, FIRST, "terminate", 120)]),
        ("rebalance_recommendation", [(NOTICED, FIRST, "rebalance", 0)]),
        ("instance_state_change", [(LOST, FIRST)]),
        ("capacity_reservation_interruption_warning", [(NOTICED, FIRST, "terminate", 600)]),
        ("capacity_block_expiration_warning", []),
        ("spot_request_fulfillment", []),
        ("spot_fleet_instance_change", []),
        ("health_retirement", [(NOTICED, FIRST, "terminate", 3600), (NOTICED, SECOND, "terminate", 3600)]),
        ("health_reboot", [(NOTICED, FIRST, "stop", 3600)]),
        ("health_closed", []),
        ("health_issue", []),
    ],
)
def test_what_each_documented_message_says(name: str, told: list[tuple[Any, ...]]) -> None:
    notice = parse(messages.message(name), source="eventbridge")
    assert notice.known
    found = [
        (type(one), one.machine_id, one.action, one.notice_seconds)
        if isinstance(one, NOTICED)
        else (type(one), one.machine_id)
        for one in notice.facts
    ]
    assert found == told


def test_every_message_is_in_the_table() -> None:
    [table] = [mark for mark in test_what_each_documented_message_says.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
    assert sorted(name for name, _ in table.args[1]) == messages.NAMES


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "no json",
        "[]",
        "null",
        "{}",
        SPOT | {"id": 7},
        SPOT | {"id": "a\0b"},
        SPOT | {"id": "x" * 201},
        SPOT | {"detail-type": "\ud800"},
        SPOT | {"detail": {"instance-id": "i-\n1", "instance-action": "stop"}},
        SPOT | {"time": "yesterday"},
        SPOT | {"detail": None},
        SPOT | {"detail": {"instance-action": "terminate"}},
        SPOT | {"detail": {"instance-id": "i-1", "instance-action": "explode"}},
        SPOT | {"detail": {"instance-id": "", "instance-action": "stop"}},
        message("AWS Health Event", HEALTH | {"startTime": "soon"}),
        message("AWS Health Event", HEALTH | {"affectedEntities": [{}]}),
    ],
)
def test_a_broken_message_is_malformed_and_nothing_else(raw: Any) -> None:
    with pytest.raises(MalformedError):
        parse(raw, source="s")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(SPOT)), json_values)
def test_no_value_of_any_field_breaks_the_door(field: str, value: Any) -> None:
    for body in (SPOT, message("AWS Health Event", HEALTH)):
        with suppress(MalformedError):
            parse(body | {field: value}, source="s")


@given(st.text() | st.binary())
def test_no_text_breaks_the_door(raw: str | bytes) -> None:
    with pytest.raises(MalformedError):
        parse(raw, source="s")
