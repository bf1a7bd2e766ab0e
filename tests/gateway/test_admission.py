"""Who is let in, and which target is asked: by tables of times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.admission import FAILURES_TO_OPEN, LAST_OPEN_SECONDS, Admission, Circuit, Limits, Targets
from services.gateway.api.chat import session_of

LIMITS = Limits(requests_per_second=2, burst=3, concurrent_per_key=10, concurrent=12)


def test_a_burst_is_let_in_and_then_the_rate() -> None:
    admission = Admission()
    assert [admission.enter("a", LIMITS, 0.0) for _ in range(3)] == [None] * 3
    refused = admission.enter("a", LIMITS, 0.0)
    assert refused is not None
    assert (refused.code, refused.retry_after_seconds, refused.shed) == ("rate_limit_exceeded", 1, False)
    assert admission.enter("b", LIMITS, 0.0) is None  # another key's bucket
    assert admission.enter("a", LIMITS, 0.5) is None
    assert admission.enter("a", LIMITS, 0.9) is not None


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("ab"), st.booleans()), max_size=200))
def test_never_more_than_the_limits_and_nothing_is_lost(steps: list[tuple[float, str, bool]]) -> None:
    admission, limits, now = Admission(), Limits(100, 50, 4, 6), 0.0
    inside: list[str] = []
    for pause, key, leaves in steps:
        now += pause
        if leaves and inside:
            admission.leave(inside.pop())
        elif admission.enter(key, limits, now) is None:
            inside.append(key)
        assert admission.under_way == len(inside) <= 6
        assert max((inside.count(one) for one in "ab"), default=0) <= 4


def test_too_many_of_all_are_shed() -> None:
    admission = Admission()
    limits = Limits(100, 100, 10, 1)
    assert admission.enter("a", limits, 0.0) is None
    refused = admission.enter("b", limits, 0.0)
    assert refused is not None
    assert refused.shed
    admission.leave("a")
    assert admission.enter("b", limits, 0.0) is None


def test_a_circuit_opens_after_failures_and_lets_one_request_try() -> None:
    circuit = Circuit()
    for _ in range(FAILURES_TO_OPEN):
        assert circuit.allows(0.0)
        circuit.failed(0.0)
    assert not circuit.allows(0.1)
    assert circuit.allows(LAST_OPEN_SECONDS)
    circuit.begin()
    assert not circuit.allows(LAST_OPEN_SECONDS)  # one is trying
    circuit.left()  # its client went away
    assert circuit.allows(LAST_OPEN_SECONDS)
    circuit.begin()
    circuit.succeeded()
    assert circuit.allows(LAST_OPEN_SECONDS)


def test_targets_take_turns_and_a_broken_one_is_left_out() -> None:
    targets, urls = Targets(), ["http://one", "http://two"]
    assert {targets.choose(urls, 0.0) for _ in range(4)} == set(urls)
    for _ in range(FAILURES_TO_OPEN):
        targets.circuit("http://one").failed(0.0)
    assert {targets.choose(urls, 0.1) for _ in range(4)} == {"http://two"}
    for _ in range(FAILURES_TO_OPEN):
        targets.circuit("http://two").failed(0.0)
    assert targets.choose(urls, 0.1) is None


def test_a_session_is_the_header_or_openais_user_and_is_not_told() -> None:
    ann = session_of(None, {"user": "ann"})
    assert ann == session_of("ann", {"user": "bob"}) == session_of(None, {"safety_identifier": "ann"})
    assert ann != session_of(None, {"user": "bob"})
    assert "ann" not in ann
    assert session_of(None, {"user": 7}) == session_of("", {}) == ""
