"""What an endpoint's replicas need next: by table for each rule, by random endings for what must always hold."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.inference.replica_set import (
    MAX_FAILURES,
    NEXT_STATES,
    Limits,
    Reason,
    Replica,
    ReplicaState,
    Step,
    Wish,
    clear,
    decide,
    learn,
)
from sskai.cluster import offer_of
from sskai.events import v1 as events
from tests.inference.replicating import CHEAP, OTHER, START, STEADY, after, replica, wish

LIMITS = Limits()


def look(wished: Wish, *replicas: Replica, seconds: float = 1) -> Step:
    """Everybody was heard a moment ago."""
    return decide(wished, replicas, LIMITS, after(seconds), after(seconds))


def numbers(pairs: tuple[tuple[Replica, Reason], ...]) -> list[tuple[int, str]]:
    return [(one.number, reason) for one, reason in pairs]


def test_enough_is_left_alone() -> None:
    assert look(wish(2), replica(1), replica(2)) == Step()
    assert look(wish(2), replica(1), replica(2, "launching")) == Step()
    assert look(wish(0)) == Step()


def test_what_is_missing_goes_to_the_cheapest() -> None:
    assert look(wish(3), replica(1)).launch == (CHEAP, CHEAP)
    assert look(wish(20)).launch == (CHEAP,) * LIMITS.most_launches


def test_the_floor_is_on_demand() -> None:
    assert look(wish(3, on_demand=1)).launch == (STEADY, CHEAP, CHEAP)
    assert look(wish(2, on_demand=1), replica(1, where=STEADY), replica(2)).launch == ()
    assert look(wish(1, on_demand=1), replica(1, where=STEADY)).launch == ()


@pytest.mark.parametrize(
    ("denied", "replicas", "expected"),
    [
        ([CHEAP], [], (OTHER, OTHER)),
        # On demand when no spot is to be had, as far as the minimum; the rest waits for spot.
        ([CHEAP, OTHER], [], (STEADY,)),
        ([CHEAP, OTHER], [replica(1)], ()),
        ([CHEAP, OTHER, STEADY], [], ()),
    ],
)
def test_an_offer_that_denied_is_left_alone(
    denied: list[events.Placement], replicas: list[Replica], expected: tuple[events.Placement, ...]
) -> None:
    until = {offer_of(one): after(60) for one in denied}
    assert look(wish(2, denied_until=until), *replicas).launch == expected
    assert look(wish(2, denied_until=until), seconds=61).launch == (CHEAP, CHEAP)


def test_only_on_demand_was_asked_for() -> None:
    assert look(wish(3, placements=(STEADY,))).launch == (STEADY,) * 3


def test_spot_that_is_back_takes_the_place_of_what_stood_in_for_it() -> None:
    stands_in = replica(1, where=STEADY)
    assert look(wish(1), stands_in).launch == (CHEAP,)
    assert look(wish(1, denied_until={offer_of(one): after(9) for one in (CHEAP, OTHER)}), stands_in) == Step()
    assert look(wish(1), stands_in, replica(2, "launching")) == Step(), "it answers until the other one does"
    assert numbers(look(wish(1), stands_in, replica(2)).drain) == [(1, Reason.CHEAPER)]
    assert look(wish(1, on_demand=1), stands_in) == Step(), "the floor is no stand-in"
    assert look(wish(1, on_demand=1), replica(1)).launch == (STEADY,), "spot stood in for the floor"
    assert numbers(look(wish(1, on_demand=1), replica(1), replica(2, where=STEADY)).drain) == [(1, Reason.SCALED_DOWN)]


def test_a_noticed_one_is_replaced_first_and_drained_then() -> None:
    noticed = replica(1, terminates_at=after(120))
    assert look(wish(1), noticed) == Step(launch=(CHEAP,))
    assert look(wish(1), noticed, replica(2, "launching"), seconds=30) == Step()
    assert numbers(look(wish(1), noticed, replica(2), seconds=30).drain) == [(1, Reason.INTERRUPTED)]


def test_a_noticed_one_drains_in_time_whatever_becomes_of_the_other() -> None:
    noticed = replica(1, terminates_at=after(120))
    step = look(wish(1), noticed, replica(2, "launching"), seconds=120 - LIMITS.lead)
    assert numbers(step.drain) == [(1, Reason.INTERRUPTED)]


def test_of_several_noticed_ones_the_most_urgent_goes_first() -> None:
    first, second = replica(1, terminates_at=after(600)), replica(2, terminates_at=after(300))
    assert numbers(look(wish(2), first, second, replica(3), replica(4, "launching")).drain) == [(2, Reason.INTERRUPTED)]


def test_a_noticed_one_that_does_not_answer_yet_is_given_back() -> None:
    step = look(wish(1), replica(1, "launching", terminates_at=after(120)))
    assert step == Step(launch=(CHEAP,), end=step.end)
    assert numbers(step.end) == [(1, Reason.INTERRUPTED)]


def test_a_new_version_rolls_through() -> None:
    wished = wish(2, weights=("builtin://tiny", "s3://new"))
    old = [replica(1), replica(2)]
    assert look(wished, *old) == Step(launch=(CHEAP, CHEAP))
    new = [replace(one, weights=wished.weights) for one in (replica(3), replica(4, "launching"))]
    assert numbers(look(wished, *old, *new).drain) == [(1, Reason.NEW_VERSION)]


def test_too_many_go_dearest_and_idlest_first_and_those_that_do_not_answer_before_all() -> None:
    busy, idle = replica(1, active=5), replica(2)
    assert numbers(look(wish(1), busy, idle).drain) == [(2, Reason.SCALED_DOWN)]
    assert numbers(look(wish(1), replica(1, where=OTHER), idle).drain) == [(1, Reason.SCALED_DOWN)]
    step = look(wish(2), busy, idle, replica(3, "launching"))
    assert (numbers(step.end), step.drain) == ([(3, Reason.SCALED_DOWN)], ())
    assert numbers(look(wish(0), busy).drain) == [(1, Reason.SCALED_DOWN)]


def test_the_silent_are_replaced_and_a_service_that_was_away_has_heard_nobody() -> None:
    step = decide(wish(1), [replica(1)], LIMITS, after(31), START)
    assert numbers(step.end) == [(1, Reason.SILENT)]
    assert step.launch == (CHEAP,)
    assert decide(wish(1), [replica(1)], LIMITS, after(1000), after(980)) == Step()
    assert decide(wish(1), [replica(1)], LIMITS, after(29), START) == Step()


def test_one_that_never_comes_and_one_that_never_leaves_are_ended() -> None:
    assert numbers(look(wish(1), replica(1, "launching"), seconds=LIMITS.start).end) == [(1, Reason.NEVER_READY)]
    leaving = replica(1, "draining", reason=Reason.SCALED_DOWN)
    assert look(wish(0), leaving, seconds=LIMITS.drain - 1) == Step()
    assert numbers(look(wish(0), leaving, seconds=LIMITS.drain).end) == [(1, Reason.SCALED_DOWN)]


def test_nobody_wants_the_endpoint_any_more() -> None:
    step = clear([replica(1), replica(2, "launching"), replica(3, "requested"), replica(4, "ended")], LIMITS, after(1))
    assert numbers(step.drain) == [(1, Reason.DELETED)]
    assert numbers(step.end) == [(2, Reason.DELETED), (3, Reason.DELETED)]
    assert step.launch == ()


def test_failures_in_a_row_wait_longer_and_a_stable_one_ends_the_row() -> None:
    failed = [replica(number, "ended", reason=Reason.EXITED) for number in range(1, 4)]
    history = learn(failed, 60, after(1))
    assert (history.failures, history.retry_at) == (3, after(8))
    assert look(wish(1, retry_at=history.retry_at), seconds=7).launch == ()
    assert look(wish(1, retry_at=history.retry_at), seconds=8).launch == (CHEAP,)
    stable = replica(4, "ended", reason=Reason.EXITED, ready_at=START, ended_at=after(61))
    assert learn([*failed, stable], 60, after(62)).failures == 0
    assert learn([*failed, replica(4)], 60, after(61)).failures == 0
    assert learn([*failed, replica(4)], 60, after(59)).failures == 3, "it may fail as the others did"
    interrupted = replica(5, "ended", reason=Reason.INTERRUPTED)
    assert learn([*failed, interrupted], 60, after(1)).failures == 3
    many = [replica(number, "ended", reason=Reason.EXITED) for number in range(40)]
    retry_at = learn(many, 60, after(1)).retry_at
    assert retry_at is not None
    assert retry_at - START == timedelta(seconds=120)
    assert learn(many, 60, after(1)).failures > MAX_FAILURES


def test_denials_are_learnt_from_the_newest() -> None:
    denied = replica(1, "ended", where=OTHER, reason=Reason.NO_CAPACITY)
    assert learn([denied], 60, after(59)).denied_until == {offer_of(OTHER): after(60)}
    assert learn([denied], 60, after(60)).denied_until == {}
    assert learn([denied], 60, after(59)).failures == 0


def test_states_end() -> None:
    with pytest.raises(ValueError, match="replica end_1-1: ended -> draining"):
        replica(1, "ended").to(ReplicaState.DRAINING, Reason.DELETED, START)
    assert NEXT_STATES[ReplicaState.ENDED] == frozenset()


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["load", "deny", "notice", "kill", "exit", "silence", "want", "nothing"]), st.integers(0, 7)
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=40)
@given(EVENTS, st.integers(1, 4), st.integers(0, 2))
def test_whatever_happens_the_wish_is_met_in_the_end(told: list[tuple[str, int]], wanted: int, on_demand: int) -> None:
    """A small world in which launches come, or are denied, and replicas are noticed, killed and forgotten."""
    wished, now = wish(wanted, on_demand=on_demand), 0.0
    replicas: list[Replica] = []

    def turn(denied: bool) -> None:
        nonlocal replicas, now
        now += 10
        history = learn(replicas, 60, after(now))
        current = replace(wished, denied_until=history.denied_until, retry_at=history.retry_at)
        step = decide(current, replicas, LIMITS, after(now), START)
        moves = {one.number: one.to(ReplicaState.DRAINING, reason, after(now)) for one, reason in step.drain}
        assert not moves.keys() & {one.number for one, _ in step.end}
        moves |= {one.number: one.to(ReplicaState.ENDED, reason, after(now)) for one, reason in step.end}
        answering = [one for one in replicas if one.ready and one.number not in {each.number for each, _ in step.end}]
        left = [one for one in answering if one.number not in moves]
        urgent = [one for one in answering if one.terminates_at and one.terminates_at <= after(now + LIMITS.lead)]
        assert len(left) >= min(len(answering), wished.wanted) - len(urgent), "none goes before another answers"
        replicas = [moves.get(one.number, one) for one in replicas]
        # What drains is done by the next look.
        replicas = [
            one.to(ReplicaState.ENDED, Reason.LEFT, after(now))
            if one.state is ReplicaState.DRAINING and one.number not in moves
            else one
            for one in replicas
        ]
        for place in step.launch:
            new = replica(len(replicas) + 1, "launching", place, heard_at=None, launched_at=after(now))
            new = replace(new, requested_at=after(now), ready_at=None)
            replicas.append(new.to(ReplicaState.ENDED, Reason.NO_CAPACITY, after(now)) if denied else new)

    def load() -> None:
        nonlocal replicas
        replicas = [
            replace(one, state=ReplicaState.READY, ready_at=after(now)) if one.state is ReplicaState.LAUNCHING else one
            for one in replicas
        ]

    def beat(but: int | None = None) -> None:
        nonlocal replicas
        replicas = [replace(one, heard_at=after(now)) if one.number != but else one for one in replicas]

    for event, which in told:
        live = [one for one in replicas if one.live]
        victim = live[which % len(live)] if live else None
        if event == "want":
            wished = replace(wished, wanted=max(1, which))
        elif event == "load":
            load()
        elif victim is not None and event in ("notice", "kill", "exit"):
            changed = {
                "notice": lambda one: replace(one, terminates_at=after(now + 120)),
                "kill": lambda one: one.to(ReplicaState.ENDED, Reason.INTERRUPTED, after(now)),
                "exit": lambda one: one.to(ReplicaState.ENDED, Reason.EXITED, after(now)),
            }[event](victim)
            replicas[victim.number - 1] = changed
        beat(but=victim.number if victim is not None and event == "silence" else None)
        turn(denied=event == "deny")
    for _ in range(30):
        beat()
        turn(denied=False)
        load()
    beat()
    left = [one for one in replicas if one.live]
    assert len(left) == wished.wanted
    assert all(one.ready and one.terminates_at is None for one in left)
    assert sum(not one.on_spot for one in left) == min(on_demand, wished.wanted) or wished.wanted < on_demand
