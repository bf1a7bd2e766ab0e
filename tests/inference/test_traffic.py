"""Which version answers: sticky, weighted, and the same everywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.traffic import MAX_KEY_CHARACTERS, Asker, is_shadowed, point, sticky_key, to_canary

keys = st.text(max_size=50)
shares = st.floats(0, 1)


@given(keys, shares, shares)
def test_who_is_with_the_canary_stays_there_when_its_share_grows(key: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert to_canary("end_1", key, large) or not to_canary("end_1", key, small)


@given(keys)
def test_nothing_goes_to_a_share_of_0_and_everything_to_1(key: str) -> None:
    assert not to_canary("end_1", key, 0.0)
    assert to_canary("end_1", key, 1.0)


@pytest.mark.parametrize("share", [0.05, 0.25, 0.6])
def test_the_shares_are_those_that_were_wished(share: float) -> None:
    count = 20_000
    canary = sum(to_canary("end_1", f"user {number}", share) for number in range(count))
    assert canary / count == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5)


def test_endpoints_and_purposes_draw_independently() -> None:
    both = sum(to_canary("end_1", str(n), 0.5) and to_canary("end_2", str(n), 0.5) for n in range(10_000))
    assert both / 10_000 == pytest.approx(0.25, abs=0.02)
    shadowed = sum(to_canary("end_1", str(n), 0.5) and is_shadowed("end_1", str(n), 0.5) for n in range(10_000))
    assert shadowed / 10_000 == pytest.approx(0.25, abs=0.02)


def test_a_point_is_a_fixed_function_of_endpoint_and_key() -> None:
    """It must never change: users would change versions in the middle of a conversation."""
    assert point("end_1", "session key_1 ann") == 0.21958750160236207


@pytest.mark.parametrize(
    ("asker", "sticky_by_key", "key"),
    [
        (Asker("key_1", "ann"), False, "session key_1 ann"),
        (Asker("key_1", "ann"), True, "session key_1 ann"),
        (Asker("key_1"), False, "request chat_1"),
        (Asker("key_1"), True, "key key_1"),
        (Asker(), True, "request chat_1"),
    ],
)
def test_by_what_a_request_is_drawn(asker: Asker, sticky_by_key: bool, key: str) -> None:
    assert sticky_key(asker, "chat_1", sticky_by_key=sticky_by_key) == key


def test_an_asker_is_what_the_gateways_headers_say() -> None:
    headers = {"x-sskai-key": "key_1", "x-sskai-session": "s" * 999, "x-sskai-sample": "no"}
    assert Asker.of(headers) == Asker("key_1", "s" * MAX_KEY_CHARACTERS, sampled=False)
    assert Asker.of({}) == Asker()
