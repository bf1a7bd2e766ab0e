"""What is a dataset, by tables; and that it does not matter how the bytes are cut."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.datareport import Summary
from services.gateway.datasets import MAX_LINE_BYTES, Scan
from services.gateway.rowforms import RejectedError


def scan(data: bytes, piece_bytes: int = 7) -> Summary:
    running = Scan()
    for start in range(0, len(data), piece_bytes):
        running.feed(data[start : start + piece_bytes])
    return running.summary()


def message(role: str, content: Any = "x") -> dict[str, Any]:
    return {"role": role, "content": content}


def messages(*turns: dict[str, Any]) -> bytes:
    return json.dumps({"messages": list(turns)}).encode()


GOOD = [
    (b'{"text": "a"}\n{"text": "b", "source": "web"}\n', "text", 2),
    (b'{"text": "a"}', "text", 1),
    (b'{"text": "a"}\r\n{"text": "b"}\r\n', "text", 2),
    (b'{"text": "a"}\n\n \n', "text", 1),
    ('{"text": "grüße 你好 🙂"}\n'.encode(), "text", 1),
    (b'{"prompt": "a", "completion": "b"}\n', "prompt-completion", 1),
    (messages(message("system"), message("user"), message("assistant")), "messages", 1),
    (messages(message("assistant")), "messages", 1),
]


@pytest.mark.parametrize(("data", "name", "rows"), GOOD)
def test_a_well_formed_file_is_summed_up(data: bytes, name: str, rows: int) -> None:
    summary = scan(data)
    assert (summary.format, summary.rows, summary.bytes) == (name, rows, len(data))
    assert summary.sha256 == hashlib.sha256(data).hexdigest()


GOOD_ROW = b'{"text": "a"}\n'
BAD = [
    (b"", 0, "", "no rows"),
    (b"\n\n", 0, "", "no rows"),
    (GOOD_ROW + b"\n" + GOOD_ROW, 2, "", "blank"),
    (b"\xef\xbb\xbf" + GOOD_ROW, 1, "", "byte order mark"),
    (GOOD_ROW + b'{"text": "\xff"}\n', 2, "", "not UTF-8 at byte 11"),
    (GOOD_ROW + b'{"text": "a\x00"}\n', 2, "", "NUL"),
    (GOOD_ROW + b'{"text": "a\\u0000"}\n', 2, "text", "NUL"),
    (GOOD_ROW + b'{"text": "\\ud800"}\n', 2, "text", "surrogate"),
    (GOOD_ROW + b'{"text": "a"\n', 2, "", "not JSON at character"),
    (GOOD_ROW + b'{"text": NaN}\n', 2, "", "NaN is no JSON number"),
    (GOOD_ROW + b"[1]\n", 2, "", "a row is a JSON object"),
    (GOOD_ROW + b"[" * 50_000 + b"]" * 50_000, 2, "", "nested"),
    (GOOD_ROW + b'{"text": ""}\n', 2, "text", "is empty"),
    (GOOD_ROW + b'{"text": "  "}\n', 2, "text", "is empty"),
    (GOOD_ROW + b'{"text": null}\n', 2, "text", "must be a text, not null"),
    (GOOD_ROW + b'{"txt": "a"}\n', 2, "text", "missing"),
    (GOOD_ROW + b'{"prompt": "a", "completion": "b"}\n', 2, "text", "missing"),
    (b'{"text": "a", "messages": []}\n', 1, "", "keep one of them"),
    (b'{"instruction": "a", "output": ""}\n', 1, "output", "is empty"),
    (b'{"conversations": [{"from": "robot", "value": "a"}]}\n', 1, "conversations[0].from", "not 'robot'"),
    (b'{"conversations": [{"from": "human", "value": 1}]}\n', 1, "conversations[0].value", "not a number"),
    (b'{"prompt": "a", "chosen": "b", "rejected": "b"}\n', 1, "rejected", "equal to chosen"),
    (b'{"prompt": "a", "chosen": "b", "rejected": ["c"]}\n', 1, "prompt", "not a text"),
    (b'{"chosen": [{"role": "user", "content": "a"}], "rejected": []}\n', 1, "prompt", "do not begin alike"),
    (b'{"text": "a", "label": 1.5}\n', 1, "label", "whole number"),
    (b'{"text": "a", "label": "x"}\n{"text": "b", "label": 1}\n', 2, "label", "mixed"),
    (b'{"text": "a", "label": "x"}\n', 0, "label", "two classes"),
    (b'{"question": "a"}\n', 1, "", "the columns are question"),
    (b'{"prompt": "a", "completion": ""}\n', 1, "completion", "is empty"),
    (b'{"messages": []}', 1, "messages", "at least one message, not an empty list"),
    (b'{"messages": "hi"}', 1, "messages", "at least one message, not a text"),
    (b'{"messages": [1]}', 1, "messages[0]", "must be an object"),
    (messages(message("user")), 1, "messages", "no message of the assistant"),
    (messages(message("tool"), message("assistant")), 1, "messages[0].role", "must be one of"),
    (messages(message("user"), message("system"), message("assistant")), 1, "messages[1].role", "stands first"),
    (messages(message("user"), message("assistant", "")), 1, "messages[1].content", "is empty"),
    (messages(message("user"), message("assistant", [])), 1, "messages[1].content", "must be a text"),
    (GOOD_ROW + b'{"text": "' + b"x" * MAX_LINE_BYTES, 2, "", "longer than"),
    (GOOD_ROW + b'{"text": "' + b"x" * MAX_LINE_BYTES + b'"}\n' + GOOD_ROW, 2, "", "longer than"),
]


@pytest.mark.parametrize(("data", "row", "column", "reason"), BAD, ids=[f"{row}-{why}" for _, row, _, why in BAD])
@pytest.mark.parametrize("piece_bytes", [64, 10_000_000])
def test_the_first_thing_that_is_wrong_is_named(
    data: bytes, row: int, column: str, reason: str, piece_bytes: int
) -> None:
    with pytest.raises(RejectedError) as refused:
        scan(data, piece_bytes)
    assert (refused.value.row, refused.value.column) == (row, column)
    assert reason in refused.value.reason


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    running = Scan()
    for _ in range(MAX_LINE_BYTES // 100_000):
        running.feed(b"x" * 100_000)
    with pytest.raises(RejectedError, match="longer than"):
        running.feed(b"x")


@given(
    rows=st.lists(st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text), min_size=1, max_size=5),
    escaped=st.booleans(),
    piece_bytes=st.integers(1, 50),
)
def test_how_the_bytes_are_cut_does_not_matter(rows: list[str], escaped: bool, piece_bytes: int) -> None:
    data = b"".join(json.dumps({"text": row}, ensure_ascii=escaped).encode() + b"\n" for row in rows)
    whole = scan(data, len(data))
    assert scan(data, piece_bytes) == whole
    assert whole.rows == len(rows)
    assert whole.estimated_tokens == max(1, sum(map(len, rows)) // 4)


@given(data=st.binary(max_size=300), piece_bytes=st.integers(1, 50))
def test_no_bytes_at_all_break_the_scan(data: bytes, piece_bytes: int) -> None:
    outcomes = []
    for size in (piece_bytes, 1000):
        try:
            outcomes.append(str(scan(data, size)))
        except RejectedError as error:
            outcomes.append(str(error))
    assert outcomes[0] == outcomes[1]


def kept(*rows: Any) -> tuple[Summary, list[Any]]:
    stored = bytearray()
    running = Scan(stored.extend)
    running.feed(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    summary = running.summary()
    assert summary.sha256 == hashlib.sha256(stored).hexdigest()
    return summary, [json.loads(line) for line in stored.splitlines()]


def test_alpaca_and_sharegpt_are_told_as_messages() -> None:
    for document, asked in (
        ({"instruction": "Add.", "input": "1 2", "output": "3"}, "Add.\n\n1 2"),
        ({"instruction": "Add.", "input": "", "output": "3"}, "Add."),
        ({"conversations": [{"from": "human", "value": "Add."}, {"from": "gpt", "value": "3"}]}, "Add."),
    ):
        summary, rows = kept(document)
        assert summary.format == "messages"
        assert rows == [{"messages": [message("user", asked), message("assistant", "3")]}]


def test_preferences_of_messages_get_their_prompt_from_what_both_begin_with() -> None:
    asked, good, bad = message("user", "a"), message("assistant", "b"), message("assistant", "c")
    summary, rows = kept({"chosen": [asked, good], "rejected": [asked, bad]})
    assert summary.format == "preference"
    assert rows == [{"prompt": [asked], "chosen": [good], "rejected": [bad]}]


def test_the_report_tells_lengths_duplicates_and_classes() -> None:
    report = kept(*({"text": text, "label": label} for text, label in [("a", 10), ("bbb", 2), ("a", 10)]))[0].report
    assert report == {
        "characters": 5,
        "characters_per_row": {"min": 1, "median": 1.0, "p95": 2.8, "max": 3},
        "duplicates": 1,
        "labels": ["2", "10"],
        "rows_per_class": {"2": 1, "10": 2},
    }
    assert kept({"prompt": "abc", "completion": "d"})[0].report["share_learnt"] == 0.25


def test_too_many_classes_are_no_label() -> None:
    with pytest.raises(RejectedError, match="more than 1000 classes"):
        kept(*({"text": "a", "label": index} for index in range(1001)))
