"""Who may launch and what holds the others: tables of rules, properties for fairness, simulations for starvation."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler.admission import (
    ALL_MACHINES,
    Decision,
    Holder,
    Limits,
    Priority,
    Size,
    Waiting,
    decide,
    jobs_queue,
)
from services.scheduler.places import Span

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LOW, NORMAL, HIGH = Priority


def exactly(seconds: float) -> Span:
    return Span(seconds, seconds, seconds)


def job(
    name: str,
    tenant: str = "a",
    priority: Priority = NORMAL,
    *,
    age: float = 0.0,
    machines: int = 1,
    seconds: float = 3600.0,
    cost: float = 0.0,
    left: float | None = None,
) -> Waiting:
    submitted_at = NOW - timedelta(seconds=age)
    return Waiting(name, tenant, priority, submitted_at, Size(machines), exactly(seconds), cost, left)


def running(name: str, tenant: str = "a", *, machines: int = 1, seconds: float = 600.0, usd: float = 0.0) -> Holder:
    return Holder(name, tenant, Size(machines), exactly(seconds), usd)


def rules(decision: Decision) -> dict[str, str]:
    return {name: verdict.rule for name, verdict in decision.verdicts.items()}


@pytest.mark.parametrize(
    ("waiting", "holders", "limits", "launch", "held"),
    [
        pytest.param([job("1")], [], Limits(1), ["1"], {}, id="an idle scheduler launches"),
        pytest.param([job("1")], [running("r")], Limits(1), [], {"1": "quota"}, id="a tenant's jobs are limited"),
        pytest.param([job("1", "b")], [running("r")], Limits(1), ["1"], {}, id="each tenant has its own limit"),
        pytest.param(
            [job("1", machines=3)], [running("r", machines=2)], Limits(9, 4), [], {"1": "quota"}, id="and its machines"
        ),
        pytest.param(
            [job("old", age=60), job("new", "a", HIGH)],
            [],
            Limits(1),
            ["new"],
            {"old": "priority"},
            id="a higher class goes first",
        ),
        pytest.param(
            [job("old", priority=LOW, age=7200), job("new", "a", NORMAL)],
            [],
            Limits(1),
            ["old"],
            {"new": "quota"},
            id="who has waited long is raised by a class",
        ),
        pytest.param(
            [job("a1", "a", age=99), job("b1", "b")],
            [running("r", "a")],
            Limits(9, machines=2),
            ["b1"],
            {"a1": "fair-share"},
            id="the tenant with less goes first",
        ),
        pytest.param(
            [job("a1", "a", age=99), job("b1", "b")],
            [running("r", "a"), running("s", "b")],
            Limits(9, machines=3, weights={"a": 2}),
            ["a1"],
            {"b1": "quota"},
            id="shares are weighted",
        ),
        pytest.param(
            [job("gang", machines=4, age=9), job("small")],
            [running("r", machines=2, seconds=600)],
            Limits(9, machines=4),
            [],
            {"gang": "quota", "small": "quota"},
            id="a gang that stands first is not delayed",
        ),
        pytest.param(
            [job("gang", "b", machines=4, age=9), job("short", "b", seconds=500)],
            [running("r", machines=2, seconds=600)],
            Limits(9, machines=4),
            ["short"],
            {"gang": "quota"},
            id="who is gone before the gang starts may use its machines",
        ),
        pytest.param(
            [job("gang", "b", machines=3, age=9), job("long", "b", seconds=9e9)],
            [running("r", machines=2, seconds=600)],
            Limits(9, machines=4),
            ["long"],
            {"gang": "quota"},
            id="a machine that the gang does not need is free for long",
        ),
        pytest.param(
            [job("huge", machines=9, age=9), job("1")],
            [],
            Limits(9, machines=4),
            ["1"],
            {"huge": "quota"},
            id="what can never fit holds nobody up",
        ),
        pytest.param(
            [job("1", cost=2.0, left=1.5), job("2", cost=1.5, left=1.5)],
            [],
            Limits(9),
            ["2"],
            {"1": "budget"},
            id="work that its budget does not pay for is not begun",
        ),
        pytest.param(
            [job("1", cost=5.0), job("2", cost=2.0), job("3", "b", cost=5.0)],
            [running("r", usd=1.0)],
            Limits(9, usd_per_month_and_tenant=10.0),
            ["1", "3"],
            {"2": "tenant-budget"},
            id="spent and reserved money of a tenant stays within its month",
        ),
    ],
)
def test_rules(
    waiting: list[Waiting], holders: list[Holder], limits: Limits, launch: list[str], held: dict[str, str]
) -> None:
    decision = decide(waiting, holders, limits, NOW, {"a": 3.0})
    assert sorted(decision.launch) == sorted(launch)
    assert {name: rule for name, rule in rules(decision).items() if rule} == held
    assert all(decision.verdicts[name].detail for name in held), "whoever waits is told why"


def test_a_held_job_knows_its_position_and_who_stands_before_it() -> None:
    waiting = [job(str(number), age=100 - number, seconds=number) for number in range(5)]
    decision = decide(waiting, [running("r", seconds=60)], Limits(2), NOW)
    assert decision.launch == ("0",)
    assert [decision.verdicts[str(number)].position for number in range(1, 5)] == [1, 2, 3, 4]
    line = decision.line("3")
    assert line is not None
    assert (line.limit, line.need) == (2, 1)
    assert line.taken == ((1, exactly(60)), (1, exactly(0)))
    assert line.ahead == ((1, exactly(1)), (1, exactly(2)))
    assert decision.verdicts["3"].queue == jobs_queue("a")


def test_a_limit_that_was_lowered_launches_nobody_and_stops_nobody() -> None:
    decision = decide([job("1")], [running(str(number)) for number in range(5)], Limits(2, machines=3), NOW)
    assert decision.verdicts["1"].rule == "quota"
    assert "5 of 2" in decision.verdicts["1"].detail


JOBS = st.lists(
    st.builds(
        lambda tenant, priority, age, machines, seconds: (tenant, priority, age, machines, seconds),
        st.sampled_from("abc"),
        st.sampled_from(Priority),
        st.integers(0, 30_000),
        st.integers(1, 5),
        st.integers(1, 5000),
    ),
    max_size=40,
)
LIMITS = st.builds(
    Limits,
    jobs_per_tenant=st.integers(1, 6),
    machines_per_tenant=st.none() | st.integers(1, 8),
    machines=st.none() | st.integers(1, 12),
    weights=st.just({"b": 2.0}),
)


def made(drawn: list[tuple[str, Priority, int, int, int]]) -> list[Waiting]:
    return [
        job(f"{number:03}", tenant, priority, age=age, machines=machines, seconds=seconds)
        for number, (tenant, priority, age, machines, seconds) in enumerate(drawn)
    ]


@given(JOBS, JOBS, LIMITS, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_limits_are_kept_whole_gangs_launch_and_everybody_gets_one_verdict(
    waiting: list[tuple[str, Priority, int, int, int]],
    held: list[tuple[str, Priority, int, int, int]],
    limits: Limits,
    shuffle: random.Random,
) -> None:
    jobs = made(waiting)
    holders = [running(f"r{one.job_id}", one.tenant_id, machines=one.size.machines) for one in made(held)[:6]]
    decision = decide(jobs, holders, limits, NOW)
    assert set(decision.verdicts) == {one.job_id for one in jobs}
    assert set(decision.launch) == {name for name, rule in rules(decision).items() if not rule}
    launched = [one for one in jobs if one.job_id in decision.launch]
    for tenant in "abc":
        mine = [one for one in launched if one.tenant_id == tenant]
        before = [one for one in holders if one.tenant_id == tenant]
        assert not mine or len(mine) + len(before) <= limits.jobs_per_tenant
        machines = sum(one.size.machines for one in (*mine, *before))
        assert not mine or machines <= (limits.machines_per_tenant or machines)
    machines = sum(one.size.machines for one in (*launched, *holders))
    assert not launched or machines <= (limits.machines or machines)
    shuffle.shuffle(jobs)
    assert decide(jobs, holders, limits, NOW).launch == decision.launch, "the order of asking decides nothing"


@given(JOBS, LIMITS)
@settings(max_examples=200, deadline=None)
def test_nobody_waits_while_there_is_a_place_that_nobody_else_was_promised(
    waiting: list[tuple[str, Priority, int, int, int]], limits: Limits
) -> None:
    """With single machines nothing is ever reserved: who is held stands before limits that are full."""
    jobs = [replace(one, size=Size(1)) for one in made(waiting)]
    decision = decide(jobs, [], limits, NOW)
    launched = Counter(one.tenant_id for one in jobs if one.job_id in decision.launch)
    for one in jobs:
        if decision.verdicts[one.job_id].rule:
            mine = launched[one.tenant_id]
            tenants = min(limits.jobs_per_tenant, limits.machines_per_tenant or mine + 1)
            assert mine >= tenants or launched.total() == limits.machines


@given(st.lists(st.integers(1, 60), min_size=2, max_size=4), st.integers(4, 24), st.data())
@settings(max_examples=100, deadline=None)
def test_shares_come_out_level(counts: list[int], machines: int, data: st.DataObject) -> None:
    """Tenants that want enough end within one job of each other, over their weights."""
    weights = {f"t{number}": data.draw(st.sampled_from([1.0, 2.0, 3.0])) for number in range(len(counts))}
    jobs = [
        job(f"t{number}-{index:02}", f"t{number}", age=data.draw(st.integers(0, 3600)))
        for number, count in enumerate(counts)
        for index in range(count)
    ]
    decision = decide(jobs, [], Limits(1000, machines=machines, weights=weights), NOW)
    got = Counter(name.split("-")[0] for name in decision.launch)
    hungry = [tenant for number, tenant in enumerate(weights) if got[tenant] < counts[number]]
    for one in hungry:
        for other, weight in weights.items():
            assert (got[other] - 1) / weight <= got[one] / weights[one] + 1e-9


@dataclass
class Simulated:
    """Machines that jobs of exactly known length come to: `starts` says when each one began."""

    limits: Limits
    starts: dict[str, float]

    @classmethod
    def of(cls, limits: Limits, jobs: Sequence[tuple[float, Waiting]]) -> Simulated:
        starts: dict[str, float] = {}
        waiting: list[Waiting] = []
        holders: dict[str, tuple[Waiting, float]] = {}
        coming = sorted(jobs, key=lambda pair: pair[0])
        while coming or waiting:
            ends = [end for _, end in holders.values()]
            clock = min([*ends, *(at for at, _ in coming[:1])])
            now = NOW + timedelta(seconds=clock)
            holders = {name: pair for name, pair in holders.items() if pair[1] > clock}
            while coming and coming[0][0] <= clock:
                waiting.append(replace(coming.pop(0)[1], submitted_at=now))
            held = [Holder(name, one.tenant_id, one.size, exactly(end - clock)) for name, (one, end) in holders.items()]
            launch = set(decide(waiting, held, limits, now).launch)
            for one in (one for one in waiting if one.job_id in launch):
                starts[one.job_id] = clock
                holders[one.job_id] = (one, clock + one.seconds.high)
            waiting = [one for one in waiting if one.job_id not in launch]
        return cls(limits, starts)


def test_a_low_job_waits_behind_higher_ones_as_long_as_ageing_says_and_no_longer() -> None:
    limits = Limits(1, seconds_per_class=3600)
    crowd = [(100.0 * number, job(f"h{number}", "a", HIGH, seconds=110)) for number in range(300)]
    starts = Simulated.of(limits, [*crowd, (50.0, job("low", "a", LOW, seconds=110))]).starts
    aged = 50 + 2 * 3600
    assert starts["low"] >= aged, "until then higher ones go first"
    ahead = sum(1 for at, _ in crowd if at <= aged)
    later = [starts[f"h{number}"] for number in range(300) if 100 * number > 50]
    assert starts["low"] < max(later), "not behind those that came after it for ever"
    assert starts["low"] <= 110 * (ahead + 2)


def test_a_gang_is_not_starved_by_a_stream_of_small_jobs() -> None:
    stream = [(10.0 * number, job(f"s{number}", "b", seconds=500)) for number in range(400)]
    gang = (100.0, job("gang", "a", machines=8, seconds=60))
    starts = Simulated.of(Limits(1000, machines=8), [*stream, gang]).starts
    # What runs ends by 600; then the two that came before it may go first once more.
    assert starts["gang"] <= 600 + 500
    assert max(starts.values()) > 4000, "the stream went on all the time"


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 900)), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 900)), max_size=12),
)
@settings(max_examples=100, deadline=None)
def test_going_ahead_delays_nobody_ahead(first: list[tuple[int, int]], late: list[tuple[int, int]]) -> None:
    """Jobs of one tenant and class, all there from the start: the first ones start when they would without the late."""

    def jobs(sizes: list[tuple[int, int]], name: str) -> list[tuple[float, Waiting]]:
        return [
            (0.0, job(f"{name}{number:02}", machines=machines, seconds=seconds))
            for number, (machines, seconds) in enumerate(sizes)
        ]

    limits = Limits(1000, machines=6)
    alone = Simulated.of(limits, jobs(first, "a")).starts
    crowded = Simulated.of(limits, jobs(first, "a") + jobs(late, "b")).starts
    assert {name: crowded[name] for name in alone} == alone


def test_ten_thousand_waiting_jobs_are_decided_in_well_under_a_second() -> None:
    draw = random.Random(4)
    jobs = [
        job(
            f"{number:05}",
            f"t{draw.randrange(50)}",
            draw.choice(list(Priority)),
            age=draw.uniform(0, 9000),
            machines=draw.choice([1, 1, 1, 2, 8]),
            seconds=draw.uniform(60, 90_000),
        )
        for number in range(10_000)
    ]
    holders = [running(f"r{number}", f"t{number % 50}", seconds=draw.uniform(1, 90_000)) for number in range(1000)]
    limits = Limits(40, machines_per_tenant=80, machines=1500)
    took = []
    for _ in range(3):
        started = time.process_time()
        decision = decide(jobs, holders, limits, NOW)
        took.append(time.process_time() - started)
    assert decision.launch
    assert len(decision.queues[ALL_MACHINES]) > 1000
    assert min(took) < 0.8
