"""The spot policy by tables, and its promises on any market: deadlines met, budgets kept, delays bounded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.scheduler import availability
from services.scheduler.lab.simulator import Work, simulate
from services.scheduler.lab.traces import Trace
from services.scheduler.policy import Action, Lookahead, Situation, SpotPolicy, Zone, decide, end_seconds

HOUR = 3600.0
MODEL = availability.shipped()
LOOKAHEAD = Lookahead(MODEL)


def zone(name: str = "a", *, available: bool = True, price: float = 0.32, up_hours: float = 0.0) -> Zone:
    """A zone that was seen as it is now, and for so many hours before."""
    belief = MODEL.seen(MODEL.stationary, available)
    for _ in range(int(up_hours * 12)):
        belief = MODEL.seen(MODEL.moved(belief, 300), available)
    return Zone(name, available, price, belief)


START = Situation(
    elapsed_seconds=0,
    deadline_seconds=10 * HOUR,
    work_seconds=5 * HOUR,
    work_left_seconds=5 * HOUR,
    restart_seconds=360,
    running_on=None,
    zones=(zone(),),
    on_demand_price=1.0,
    tick_seconds=60,
)
NO_SPOT = (zone(available=False),)


@pytest.mark.parametrize(
    ("change", "action"),
    [
        ({}, Action.SPOT),
        ({"zones": NO_SPOT}, Action.WAIT),
        ({"zones": ()}, Action.WAIT),
        ({"elapsed_seconds": 4.9 * HOUR}, Action.ON_DEMAND),
        ({"elapsed_seconds": 20 * HOUR}, Action.ON_DEMAND),
        # Past its restart, spot may be ridden to the last moment.
        ({"elapsed_seconds": 4.9 * HOUR, "running_on": Action.SPOT, "running_zone": "a"}, Action.SPOT),
        (
            {
                "elapsed_seconds": 4.9 * HOUR,
                "running_on": Action.SPOT,
                "running_zone": "a",
                "restart_left_seconds": 100,
            },
            Action.ON_DEMAND,
        ),
        # Spot that costs as much as on-demand is not worth its interruptions.
        ({"zones": (zone(price=1.0),), "elapsed_seconds": 3 * HOUR}, Action.ON_DEMAND),
        ({"zones": (zone(price=1.2),), "deadline_seconds": None}, Action.ON_DEMAND),
        # On demand with little work left: no restart for the last minutes.
        ({"running_on": Action.ON_DEMAND, "work_left_seconds": 120}, Action.ON_DEMAND),
        ({"running_on": Action.ON_DEMAND}, Action.SPOT),
        # What costs nothing: no proportion of prices to decide by.
        ({"zones": (zone(price=0.0),)}, Action.SPOT),
        ({"zones": (zone(price=0.0),), "on_demand_price": 0.0}, Action.ON_DEMAND),
        ({"spot_policy": SpotPolicy.ON_DEMAND}, Action.ON_DEMAND),
        ({"spot_policy": SpotPolicy.SPOT, "zones": NO_SPOT, "elapsed_seconds": 9 * HOUR}, Action.WAIT),
        ({"deadline_seconds": None}, Action.SPOT),
        ({"deadline_seconds": None, "zones": NO_SPOT}, Action.WAIT),
        ({"deadline_seconds": None, "zones": NO_SPOT, "elapsed_seconds": 4 * HOUR}, Action.ON_DEMAND),
        # A budget that on-demand would pass: spot, or wait.
        ({"budget_left_usd": 4.0, "elapsed_seconds": 4.9 * HOUR}, Action.SPOT),
        ({"budget_left_usd": 4.0, "elapsed_seconds": 4.9 * HOUR, "zones": NO_SPOT}, Action.WAIT),
        ({"budget_left_usd": 6.0, "elapsed_seconds": 4.9 * HOUR}, Action.ON_DEMAND),
    ],
)
def test_what_is_decided(change: dict[str, object], action: Action) -> None:
    assert decide(replace(START, **change), LOOKAHEAD).action is action  # type: ignore[arg-type]


def test_a_zone_that_has_been_up_for_long_is_preferred() -> None:
    new, old = zone("new"), zone("old", up_hours=24)
    assert decide(replace(START, zones=(new, old)), LOOKAHEAD).zone == "old"
    cheaper = replace(new, price=0.1)
    assert decide(replace(START, zones=(cheaper, old)), LOOKAHEAD).zone == "new"


def test_a_running_machine_is_not_left_for_one_that_is_hardly_better() -> None:
    here, there = zone("here", price=0.32, up_hours=6), zone("there", price=0.3199, up_hours=6)
    running = replace(START, running_on=Action.SPOT, running_zone="here", zones=(here, there), work_left_seconds=HOUR)
    assert decide(running, LOOKAHEAD).zone == "here"
    much_cheaper = replace(there, price=0.05)
    assert decide(replace(running, zones=(here, much_cheaper)), LOOKAHEAD).zone == "there"


def test_without_a_deadline_the_delay_is_bounded() -> None:
    s = replace(START, deadline_seconds=None, patience_seconds=600)
    assert end_seconds(s) == pytest.approx(1.5 * 5 * HOUR + 2 * 360 + 600)


@pytest.mark.parametrize("work_seconds", [36, 600, 3600])
def test_without_a_deadline_spot_that_is_there_is_taken(work_seconds: float) -> None:
    s = replace(START, deadline_seconds=None, work_seconds=work_seconds, work_left_seconds=work_seconds)
    assert decide(s, LOOKAHEAD).action is Action.SPOT
    assert decide(replace(s, zones=NO_SPOT), LOOKAHEAD).action is not Action.SPOT


@st.composite
def markets(draw: st.DrawFn) -> tuple[list[Trace], Work]:
    zones = draw(st.integers(1, 3))
    gap = draw(st.sampled_from([60.0, 195.0, 600.0]))
    work = draw(st.floats(1.0, 6.0))
    restart = draw(st.floats(0.0, 0.5))
    slack = draw(st.floats(0.0, 3.0))
    # The rule that guards the deadline needs one restart, and whole ticks.
    deadline = work + restart + 2 * gap / 3600 + slack
    ticks = int(deadline * 3600 // gap) + 2
    records = []
    for number in range(zones):
        runs = draw(st.lists(st.integers(1, 40), min_size=1, max_size=20))
        first = draw(st.booleans())
        values = np.concatenate([np.full(run, (index % 2 == 0) == first) for index, run in enumerate(runs)])
        prices = np.full(ticks, draw(st.floats(0.05, 4.0)))
        records.append(Trace(f"zone-{number}", "made up", gap, np.resize(values, ticks), prices))
    return records, Work(work, deadline, restart)


@given(markets())
@settings(max_examples=40, deadline=None)
def test_a_feasible_deadline_is_met_on_any_market(market: tuple[list[Trace], Work]) -> None:
    zones, work = market
    outcome = simulate(lambda situation: decide(situation, LOOKAHEAD), zones, work, MODEL)
    assert not outcome.missed
    assert outcome.hours <= work.deadline_hours + 1e-9


@given(market=markets(), budget=st.floats(0.1, 5.0))
@settings(max_examples=25, deadline=None)
def test_on_demand_is_never_begun_past_the_budget(market: tuple[list[Trace], Work], budget: float) -> None:
    zones, work = market
    spent = 0.0

    def within(s: Situation) -> object:
        nonlocal spent
        left = budget - spent
        decision = decide(replace(s, budget_left_usd=left), LOOKAHEAD)
        if decision.action is Action.ON_DEMAND:
            assert s.work_left_seconds / 3600 * s.on_demand_price <= left
        price = s.on_demand_price if decision.action is Action.ON_DEMAND else 0.0
        price += sum(one.price for one in s.zones if decision.action is Action.SPOT and one.name == decision.zone)
        spent += price * s.tick_seconds / 3600
        return decision

    simulate(within, zones, work, MODEL)


def test_decisions_are_equal_for_equal_situations() -> None:
    """Tables are made as they are asked for: what was asked before must not change an answer."""
    fresh = [decide(replace(START, work_left_seconds=hours * HOUR), Lookahead(MODEL)) for hours in (5, 1, 3)]
    used = Lookahead(MODEL)
    assert [decide(replace(START, work_left_seconds=hours * HOUR), used) for hours in (5, 1, 3)] == fresh


@pytest.mark.parametrize("work_seconds", [20.0, 300.0, 1750.0])
def test_a_short_job_takes_the_spot_that_is_there_though_its_deadline_is_far(work_seconds: float) -> None:
    """One that came up a moment ago may be gone in the next: only a long job waits for one that has proved itself."""
    belief = np.zeros(len(MODEL.stationary))
    belief[:5] = [0.31, 0.47, 0.09, 0.1, 0.03]  # what was made of one sight
    short = replace(
        START,
        deadline_seconds=6 * HOUR,
        work_seconds=work_seconds,
        work_left_seconds=work_seconds,
        restart_seconds=80.0,
        zones=(Zone("a", True, 0.32, belief),),
        tick_seconds=5.0,
    )
    assert decide(short).action is Action.SPOT


def test_what_waits_for_a_better_machine_is_long() -> None:
    belief = np.zeros(len(MODEL.stationary))
    belief[:5] = [0.31, 0.47, 0.09, 0.1, 0.03]
    short = replace(
        START, deadline_seconds=6 * HOUR, work_seconds=20, work_left_seconds=20, restart_seconds=80, tick_seconds=5
    )
    alone = LOOKAHEAD.decide(replace(short, zones=(Zone("a", True, 0.32, belief),)))
    assert alone.action is Action.WAIT, "by cost alone it would; `decide` knows that nobody means it"
