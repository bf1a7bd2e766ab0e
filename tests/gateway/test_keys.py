"""What is remembered of keys between requests."""

from __future__ import annotations

from services.gateway.keys import KnownKeys, Principal

ANN = Principal("tenant_a", "key_1", admin=False)


def test_a_key_is_believed_for_a_while() -> None:
    known = KnownKeys(seconds=2)
    assert known.principal("sskai_1", 10) is None
    known.remember("sskai_1", ANN, 10)
    assert known.principal("sskai_1", 11.9) == ANN
    assert known.principal("sskai_2", 11.9) is None
    assert known.principal("sskai_1", 12) is None


def test_a_revoked_key_is_forgotten_at_once() -> None:
    known = KnownKeys()
    known.remember("sskai_1", ANN, 0)
    known.forget()
    assert known.principal("sskai_1", 0) is None


def test_the_memory_has_a_limit_and_old_ones_make_room() -> None:
    known = KnownKeys(seconds=2, most=2)
    for number in range(3):
        known.remember(f"sskai_{number}", ANN, 0)
    assert [known.principal(f"sskai_{number}", 1) for number in range(3)] == [ANN, ANN, None]
    known.remember("sskai_3", ANN, 5)
    assert known.principal("sskai_3", 6) == ANN


def test_no_key_lies_in_memory() -> None:
    known = KnownKeys()
    known.remember("sskai_secret", ANN, 0)
    assert "sskai_secret" not in repr(vars(known))
