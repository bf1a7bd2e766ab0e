"""What is blanked in users' words, by tables; and that nothing survives, wherever the text is cut."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sskai.redaction import MAX_CHARACTERS, redacted


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("write to ada.lovelace+1@mail.example.co.uk today", "write to [email] today"),
        ("my key is sk-proj-abcDEF12345678_90, keep it", "my key is [key], keep it"),
        ("sskai_live_0123456789abcdef", "[key]"),
        ("ghp_ABCDEFGHIJKLMNOP123", "[key]"),
        ("AKIAIOSFODNN7EXAMPLE and more", "[key] and more"),
        ("Authorization: Bearer abc.def-ghi_jkl==", "Authorization: Bearer [key]"),
        ("token eyJhbGciOi.eyJzdWIiOiIx.sig-nature", "token [key]"),
        ("postgres://bob:hunter22@db.example/x", "postgres://[credentials]@db.example/x"),
        ("call +49 (0)30 1234567 now", "call [number] now"),
        ("card 4111-1111-1111-1111.", "card [number]."),
        ("in 2026 we sold 1500 shoes for 49.99", "in 2026 we sold 1500 shoes for 49.99"),
        ("a\x00b", "ab"),
        ("", ""),
    ],
)
def test_redaction(text: str, clean: str) -> None:
    assert redacted(text) == clean


@given(st.text(max_size=3000), st.emails(), st.text(max_size=3000))
@example("x" * 1995, "someone@example.org", "")
def test_no_address_survives_redaction_not_even_at_the_cut(before: str, address: str, after: str) -> None:
    clean = redacted(f"{before} {address} {after}")
    assert address not in clean
    assert len(clean) <= MAX_CHARACTERS


@given(st.text(max_size=200), st.integers(10**7, 10**20), st.text(max_size=200))
def test_no_long_number_survives_redaction(before: str, number: int, after: str) -> None:
    assert str(number) not in redacted(f"{before}{number}{after}")


@given(st.text(max_size=400))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert redacted(redacted(text)) == redacted(text)
