"""Retraining's decisions as tables, and what holds for all of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.domain import Rules
from services.monitor.retraining import (
    Alarm,
    Endpoint,
    Policy,
    Situation,
    budget_since,
    cooldown_left_seconds,
    count_alarm,
    job_budget_usd,
    operators_policy,
    refuse,
    unconfirmed,
)

NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
ENDPOINT = Endpoint("endpoint_1", "tenant_1", "model_1", 1)
RULES = Rules(retrain_cooldown_seconds=3600)
OWNERS = Policy(by_owner=True, budget_usd=10.0)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("endpoint", "rules", "rule"),
    [
        (ENDPOINT, RULES, None),
        (ENDPOINT, replace(RULES, retrain_enabled=False), "disabled"),
        (replace(ENDPOINT, deleted=True), RULES, "disabled"),
        (ENDPOINT.requested("retrain_1", ago(5)), RULES, "in-flight"),
        (ENDPOINT.requested("retrain_1", ago(5)).retraining_by("job_2"), RULES, "in-flight"),
        (ENDPOINT.requested("retrain_1", ago(90_000)).retraining_by("job_2"), RULES, "in-flight"),
        # The request was lost: it blocks for ten minutes as in flight, then by the cooldown, then not at all.
        (ENDPOINT.requested("retrain_1", ago(700)), RULES, "cooldown"),
        (ENDPOINT.requested("retrain_1", ago(3700)), RULES, None),
        (ENDPOINT.retraining_by("job_2").retrain_ended("job_2", ago(3599)), RULES, "cooldown"),
        (ENDPOINT.retraining_by("job_2").retrain_ended("job_2", ago(3600)), RULES, None),
        (ENDPOINT.retraining_by("job_2").retrain_ended("another", ago(9999)), RULES, "in-flight"),
        (ENDPOINT, replace(RULES, retrain_budget_usd_per_30_days=2.5), None),
        (ENDPOINT, replace(RULES, retrain_budget_usd_per_30_days=2.0), "budget"),
    ],
)
def test_when_a_model_is_trained_again_by_the_operators_rules(
    endpoint: Endpoint, rules: Rules, rule: str | None
) -> None:
    refusal = refuse(Situation(endpoint, "job_1", 2.0), operators_policy(rules), rules, NOW)
    assert (refusal.rule if refusal else None) == rule


@pytest.mark.parametrize(
    ("situation", "policy", "rule", "rule_when_approved"),
    [
        (Situation(ENDPOINT, ""), OWNERS, "disabled", "disabled"),
        (Situation(ENDPOINT, "job_1"), OWNERS, None, None),
        (Situation(ENDPOINT, "job_1", waiting="retrain_1"), OWNERS, "in-flight", None),
        (Situation(ENDPOINT, "job_1", suggested_at=ago(3599)), OWNERS, "cooldown", None),
        (Situation(ENDPOINT, "job_1", suggested_at=ago(3600)), OWNERS, None, None),
        (Situation(ENDPOINT, "job_1", suggested_at=ago(60)), replace(OWNERS, cooldown_seconds=60.0), None, None),
        (Situation(ENDPOINT, "job_1", suggested_at=ago(60)), replace(OWNERS, cooldown_seconds=0.0), None, None),
        (Situation(ENDPOINT, "job_1", spent_usd=9.99), OWNERS, None, None),
        (Situation(ENDPOINT, "job_1", spent_usd=10.0), OWNERS, "budget", "budget"),
        (Situation(ENDPOINT.requested("r", ago(5)), "job_1"), OWNERS, "in-flight", "in-flight"),
        # The later of the two counts: what was suggested, and the retrain that ended.
        (
            Situation(ENDPOINT.retraining_by("j").retrain_ended("j", ago(60)), "job_1", suggested_at=ago(9999)),
            OWNERS,
            "cooldown",
            None,
        ),
    ],
)
def test_what_an_owners_policy_refuses_and_what_a_yes_overrules(
    situation: Situation, policy: Policy, rule: str | None, rule_when_approved: str | None
) -> None:
    refusal = refuse(situation, policy, RULES, NOW)
    assert (refusal.rule if refusal else None) == rule
    approved = refuse(situation, policy, RULES, NOW, approved=True)
    assert (approved.rule if approved else None) == rule_when_approved


@pytest.mark.parametrize(
    ("policy", "spent", "parent", "budget"),
    [
        (Policy(), 3.0, 15.0, None),
        (Policy(budget_usd=10.0), 3.0, 15.0, None),  # the operator's limit only begins nothing more
        (OWNERS, 3.0, None, 7.0),
        (OWNERS, 3.0, 15.0, 7.0),
        (OWNERS, 3.0, 5.0, None),  # the parent's own is less
        (replace(OWNERS, max_job_budget_usd=4.0), 3.0, 15.0, 4.0),
        (replace(OWNERS, max_job_budget_usd=4.0), 8.0, 15.0, 2.0),
        (Policy(by_owner=True, max_job_budget_usd=4.0), 99.0, None, 4.0),
    ],
)
def test_a_jobs_budget(policy: Policy, spent: float, parent: float | None, budget: float | None) -> None:
    situation = Situation(ENDPOINT, "job_1", spent_usd=spent, parent_budget_usd=parent)
    assert job_budget_usd(policy, situation) == budget


money = st.floats(0, 1000)


@given(money, money, st.none() | money, st.none() | money)
def test_no_retrain_can_pass_the_months_budget(
    budget: float, spent: float, most: float | None, parent: float | None
) -> None:
    policy = Policy(by_owner=True, budget_usd=budget, max_job_budget_usd=most)
    situation = Situation(ENDPOINT, "job_1", spent_usd=spent, parent_budget_usd=parent)
    if refuse(situation, policy, RULES, NOW) is None:
        own = job_budget_usd(policy, situation)
        may_spend = parent if own is None else own
        assert may_spend is not None
        assert spent + may_spend <= budget * (1 + 1e-12)
        assert most is None or may_spend <= most


@given(st.lists(st.tuples(st.integers(0, 7200), st.booleans()), max_size=30), st.integers(0, 3600))
def test_retrains_are_never_closer_than_the_cooldown(wishes: list[tuple[int, bool]], cooldown: int) -> None:
    """Whatever is wanted whenever, between the end of one and the next there is the whole cooldown."""
    policy, endpoint, ended_at = Policy(cooldown_seconds=cooldown), ENDPOINT, None
    for seconds, ends in sorted(wishes):
        now = NOW + timedelta(seconds=seconds)
        if ends and endpoint.retrain_job_id and endpoint.retrain_ended_at is None:
            endpoint, ended_at = endpoint.retrain_ended(endpoint.retrain_job_id, now), now
        elif refuse(Situation(endpoint, "job_1"), policy, RULES, now) is None:
            assert endpoint.retrain_ended_at is not None or not endpoint.retrain_job_id
            assert ended_at is None or (now - ended_at).total_seconds() >= cooldown
            assert cooldown_left_seconds(Situation(endpoint, "job_1"), policy, now) == 0
            endpoint = endpoint.requested("retrain", now).retraining_by("job")


def test_a_month_is_the_calendars_and_the_operators_30_days_roll() -> None:
    assert budget_since(OWNERS, NOW) == datetime(2026, 11, 1, tzinfo=UTC)
    assert budget_since(Policy(), NOW) == NOW - timedelta(days=30)


def alarm(at: float, stream: str = "input-content@training-data", **changes: Any) -> Alarm:
    return Alarm(
        **{"stream": stream, "model": "model_1@1", "samples": 40, "recent_samples": 30, "at_seconds": at, **changes}
    )


@pytest.mark.parametrize(
    ("alarms", "confirm_alarms", "confirm_samples", "counts"),
    [
        ([alarm(1)], 1, 0, True),
        ([alarm(1)], 2, 0, False),
        ([alarm(1), alarm(2)], 2, 0, True),
        ([alarm(1), alarm(1)], 2, 0, False),  # told twice
        ([alarm(2), alarm(1)], 2, 0, False),  # an older one that came late
        ([alarm(1), alarm(2, stream="input-topic@training-data")], 2, 0, False),  # one drift, seen by two tests
        ([alarm(1), alarm(2, model="model_1@2")], 2, 0, False),  # another version
        ([alarm(1), alarm(2, samples=2_000)], 2, 0, False),  # it was long quiet between them
        ([alarm(1)], 1, 31, False),
        ([alarm(1), alarm(2)], 1, 60, True),
        ([alarm(1), alarm(2)], 3, 60, False),
    ],
)
def test_when_a_drift_is_confirmed(
    alarms: list[Alarm], confirm_alarms: int, confirm_samples: int, counts: bool
) -> None:
    counted: dict[str, Any] = {}
    for one in alarms:
        counted = count_alarm(counted, one)
    policy = Policy(confirm_alarms=confirm_alarms, confirm_samples=confirm_samples)
    refusal = unconfirmed(counted, alarms[-1].stream, policy)
    assert (refusal is None) == counts
    assert refusal is None or refusal.rule == "unconfirmed"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 300))))
def test_alarms_that_are_told_again_change_nothing_and_streams_are_bounded(
    told: list[tuple[int, int]],
) -> None:
    once: dict[str, Any] = {}
    twice: dict[str, Any] = {}
    for at, stream in told:
        one = alarm(at, stream=f"s{stream}")
        once = count_alarm(once, one)
        twice = count_alarm(count_alarm(twice, one), one)
    assert once == twice
    assert len(once.get("streams", {})) <= 100
