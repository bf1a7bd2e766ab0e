"""What streams is letter for letter the whole answer; stop texts are found wherever the pieces are cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.text import Detokenizer, StopScanner


def decode_bytes(tokens: Sequence[int]) -> str:
    """Stands in for a byte-level tokenizer: each token is one byte."""
    return bytes(tokens).decode(errors="replace")


@given(st.text(max_size=60))
def test_characters_of_several_bytes_come_out_whole(text: str) -> None:
    detokenizer = Detokenizer(decode_bytes)
    pieces = [detokenizer.add(token) for token in text.encode("utf-8", errors="replace")]
    pieces.append(detokenizer.flush())
    assert "".join(pieces) == text.encode("utf-8", errors="replace").decode()


@given(st.lists(st.integers(0, 255), max_size=60))
def test_broken_bytes_are_never_held_back_for_long(tokens: list[int]) -> None:
    detokenizer = Detokenizer(decode_bytes)
    held = 0
    for token in tokens:
        held = 0 if detokenizer.add(token) else held + 1
        assert held < 4


def test_a_token_whose_text_depends_on_the_one_before() -> None:
    def decode(tokens: Sequence[int]) -> str:
        return " ".join(str(token) for token in tokens)  # no leading space, as sentence-piece tokenizers do it

    detokenizer = Detokenizer(decode)
    assert [detokenizer.add(token) for token in (1, 2, 3)] == ["1", " 2", " 3"]


@given(st.text("ab\n", max_size=30), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3), st.data())
def test_what_is_shown_is_the_text_before_the_first_stop(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    scanner = StopScanner(stops)
    shown = "".join(scanner.add(piece) for piece in pieces)
    if not scanner.stopped:
        shown += scanner.flush()
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
    if not ends:
        assert (shown, scanner.stopped) == (text, False)
        return
    assert scanner.stopped
    assert not any(stop in shown for stop in stops)
    assert any(text.startswith(shown + stop) for stop in stops)


@pytest.mark.parametrize("pieces", [["a#", "#b"], ["a##b"], ["a", "#", "#", "b"]])
def test_a_stop_text_is_found_across_pieces(pieces: list[str]) -> None:
    scanner = StopScanner(["##"])
    assert "".join(scanner.add(piece) for piece in pieces) == "a"
    assert scanner.stopped


def test_the_possible_beginning_of_a_stop_text_waits_no_longer_than_needed() -> None:
    scanner = StopScanner(["##"])
    assert [scanner.add("a#"), scanner.add("b"), scanner.flush()] == ["a", "#b", ""]
