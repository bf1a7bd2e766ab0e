"""What is known of the end of each machine, whoever said it: which word is news, and when it is told. Pure.

One machine is spoken of by several sources (its spot warning, a health event, the cluster that it belongs to), and by
some of them more than once. Everybody hears of its end once, and again only if it comes earlier.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from sskai.contract import moment
from sskai.events import v1 as events

Fact: TypeAlias = events.InterruptionNoticed | events.MachineLost

# AWS tells whole seconds, and its sources round differently: only a deadline earlier by more is an earlier one.
EARLIER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine: whether it is one of ours, the most urgent notice of it, and whether it is gone."""

    machine_id: str
    ours: bool = False
    notice: events.InterruptionNoticed | None = None
    notice_told: bool = False
    loss: events.MachineLost | None = None
    loss_told: bool = False


def heard(machine: Machine, fact: Fact) -> Machine:
    """What is known after a source's word; the same machine: no news."""
    if machine.loss is not None:
        return machine  # nothing more can happen to it
    if isinstance(fact, events.MachineLost):
        return replace(machine, loss=fact)
    if not _is_news(machine, fact):
        return machine
    return replace(machine, notice=fact, notice_told=False)


def told_by_others(machine: Machine, fact: Fact) -> Machine:
    """What is known after somebody told everybody so: if it is news, it needs no second voice."""
    after = heard(machine, fact)
    if after is machine:
        return machine
    if isinstance(fact, events.MachineLost):
        return replace(after, loss_told=True)
    return replace(after, notice_told=True)


def to_tell(machine: Machine, now: datetime, lead_seconds: float) -> tuple[Machine, list[Fact], datetime | None]:
    """What is to be told now of a machine of ours, the machine after that, and when to look again (None: never).

    A machine that AWS retires in two weeks is no reason to move today: its notice waits until `lead_seconds` before.
    """
    if not machine.ours:
        return machine, [], None
    if machine.loss is not None:
        untold = [] if machine.loss_told else [machine.loss]
        # A warning of what has happened helps nobody.
        return replace(machine, loss_told=True, notice_told=True), list(untold), None
    if machine.notice is None or machine.notice_told:
        return machine, [], None
    ends_at = _deadline(machine.notice)
    if ends_at is not None and ends_at - timedelta(seconds=lead_seconds) > now:
        return machine, [], ends_at - timedelta(seconds=lead_seconds)
    return replace(machine, notice_told=True), [machine.notice], None


def _is_news(machine: Machine, fact: events.InterruptionNoticed) -> bool:
    known, new = machine.notice, _deadline(fact)
    if known is None:
        return True
    before = _deadline(known)
    if new is None:
        return False  # a hint without a time, and something is known already
    if before is None or (before - new).total_seconds() > EARLIER_SECONDS:
        return True
    # The same source has put off what nobody has heard of yet.
    later = (new - before).total_seconds() > EARLIER_SECONDS and moment(fact.noticed_at) >= moment(known.noticed_at)
    return later and not machine.notice_told and fact.source == known.source and fact.reason == known.reason


def _deadline(fact: events.InterruptionNoticed) -> datetime | None:
    """None: a rebalance recommendation, a hint without a time."""
    if fact.action == "rebalance":
        return None
    if fact.HasField("terminates_at"):
        return moment(fact.terminates_at)
    return moment(fact.noticed_at) + timedelta(seconds=fact.notice_seconds)
