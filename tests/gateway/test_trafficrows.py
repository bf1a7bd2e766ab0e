"""Which requests become rows, by tables; and that none ever holds an answer that nobody judged."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import trafficrows
from services.gateway.datasets import Scan
from services.gateway.trafficrows import FORMATS, Candidate, Counts, Exchange, Kind
from sskai.redaction import MAX_CHARACTERS

START = datetime(2026, 11, 1, tzinfo=UTC)
LATER = START + timedelta(days=1)
ASKED = Exchange("inf_0", START, "How?", "So.")


def judged(**said: Any) -> Exchange:
    return replace(ASKED, given_at=LATER, **said)


KINDS = [
    (ASKED, None),
    (judged(score=1.0), Kind.LIKED),
    (judged(score=0.5), Kind.LIKED),
    (judged(score=0.49), None),
    (judged(label="up"), Kind.LIKED),
    (judged(label="Up"), Kind.LIKED),
    (judged(label="down"), None),
    (judged(label="up", score=0.0), None),
    (judged(label="strange"), None),
    (judged(score=0.0, correction="Thus."), Kind.CORRECTION),
    (judged(score=1.0, correction="Thus."), Kind.CORRECTION),
    (judged(correction="Thus."), Kind.CORRECTION),
    (judged(correction=" "), None),
    (judged(score=1.0, error="timeout"), None),
    (judged(score=1.0, output_text=" "), None),
    (judged(correction="Thus.", error="timeout", output_text=""), Kind.CORRECTION),
    (judged(score=1.0, input_text="\n"), None),
]


@pytest.mark.parametrize(("exchange", "kind"), KINDS)
def test_what_a_request_teaches(exchange: Exchange, kind: Kind | None) -> None:
    assert trafficrows.kind_of(exchange, "messages") is kind
    assert trafficrows.kind_of(exchange, "prompt-completion") is kind


@pytest.mark.parametrize(
    ("exchange", "kind"),
    [
        (ASKED, Kind.INPUT),
        (replace(ASKED, error="timeout"), None),
        (judged(score=0.0), None),
        (judged(score=1.0), Kind.LIKED),
    ],
)
def test_of_plain_text_what_was_sent_teaches_too(exchange: Exchange, kind: Kind | None) -> None:
    assert trafficrows.kind_of(exchange, "text") is kind


@pytest.mark.parametrize(
    ("dataset_format", "row"),
    [
        ("messages", {"messages": [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "Thus."}]}),
        ("prompt-completion", {"prompt": "How?", "completion": "Thus."}),
        ("text", {"text": "How?\n\nThus."}),
    ],
)
def test_a_row_is_in_the_datasets_own_format(dataset_format: str, row: dict[str, Any]) -> None:
    found, _ = trafficrows.made([judged(correction="Thus.")], dataset_format)
    (candidate,) = found.values()
    assert candidate.row == row
    assert json.loads(candidate.line) == row


@pytest.mark.parametrize(
    "exchange",
    [
        judged(score=1.0, finish_reason="length"),
        judged(score=1.0, output_text="x" * MAX_CHARACTERS),
        judged(score=1.0, input_text="x" * MAX_CHARACTERS),
        judged(correction="x" * MAX_CHARACTERS),
    ],
)
def test_what_was_cut_short_is_left_out_and_counted(exchange: Exchange) -> None:
    assert trafficrows.made([exchange], "messages") == ({}, Counts(too_long=1))


def test_a_correction_of_an_answer_that_was_too_long_is_whole() -> None:
    found, _ = trafficrows.made([judged(correction="Thus.", finish_reason="length")], "messages")
    assert len(found) == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Hello there", "hello   there.", True),
        ("\uff46\uff55\uff4c\uff4c width", "full width", True),
        ("Straße", "STRASSE", True),
        ("a\nb", "a b", True),
        ("Really?!", "really", True),
        ("a+b", "a-b", False),
        ("version 1.2", "version 12", False),
    ],
)
def test_near_duplicates(one: str, other: str, same: bool) -> None:
    assert (trafficrows.normalised(one) == trafficrows.normalised(other)) is same


def test_of_two_that_say_the_same_a_correction_stays_and_then_the_newer() -> None:
    exchanges = [
        replace(judged(score=1.0), inference_id="old"),
        replace(judged(score=1.0, output_text="so"), inference_id="praised", at=LATER),
        replace(judged(correction="SO!"), inference_id="corrected"),
        replace(judged(correction="so"), inference_id="newest", at=LATER),
    ]
    found, counts = trafficrows.made(exchanges, "messages")
    (candidate,) = found.values()
    assert (candidate.inference_id, candidate.kind, counts.duplicates) == ("newest", Kind.CORRECTION, 3)


def test_more_is_blanked_and_counted() -> None:
    exchange = judged(correction="Write to ada@example.org")
    found, counts = trafficrows.made([exchange], "prompt-completion")
    rows, counts = trafficrows.chosen(found.values(), counts, max_rows=9, max_bytes=10_000)
    assert rows[0].row == {"prompt": "How?", "completion": "Write to [email]"}
    assert counts.redacted == 1


def test_corrections_come_before_praise_and_the_newest_first_but_stand_in_their_order() -> None:
    exchanges = [
        replace(judged(), inference_id=str(n), input_text=f"{n}?", score=1.0, at=START + timedelta(seconds=n))
        for n in range(4)
    ]
    exchanges[0] = replace(exchanges[0], correction="Thus.")
    found, counts = trafficrows.made(exchanges, "messages")
    rows, counts = trafficrows.chosen(found.values(), counts, max_rows=3, max_bytes=10_000)
    assert [each.inference_id for each in rows] == ["0", "2", "3"]
    assert (counts.corrections, counts.liked, counts.over_limit) == (1, 2, 1)
    _, counts = trafficrows.chosen(found.values(), counts, max_rows=3, max_bytes=len(rows[0].line) + 1)
    assert (counts.rows, counts.over_limit) == (1, 3)


@pytest.mark.parametrize(
    ("rows", "share", "most"), [(30, 0.5, 30), (100, 0.2, 25), (0, 0.5, 0), (3, 0.9, 27), (7, 0.3, 3), (90, 0.1, 10)]
)
def test_new_rows_are_at_most_a_share_of_all(rows: int, share: float, most: int) -> None:
    assert trafficrows.max_new_rows(rows, share) == most
    assert most <= (rows + most) * share + 1e-9


def test_a_system_message_stands_first() -> None:
    found, _ = trafficrows.made([judged(score=1.0)], "messages")
    (candidate,) = found.values()
    under = trafficrows.under("Be kind.", candidate)
    assert trafficrows.system_of(under.row) == "Be kind."
    assert trafficrows.system_of(candidate.row) == ""
    assert trafficrows.fingerprint(under.row, "messages") == candidate.fingerprint


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
EXCHANGES = st.lists(
    st.builds(
        Exchange,
        inference_id=st.text("ab1", min_size=1, max_size=4),
        at=st.integers(0, 1_000_000).map(lambda seconds: START + timedelta(seconds=seconds)),
        input_text=WORDS,
        output_text=WORDS.map(lambda text: f"<answer {text}>"),
        error=st.sampled_from(["", "timeout"]),
        finish_reason=st.sampled_from(["stop", "length"]),
        score=st.none() | st.floats(0, 1),
        label=st.sampled_from(["", "up", "down", "meh"]),
        correction=st.just("") | WORDS,
        given_at=st.none() | st.just(LATER),
    ).map(lambda each: each if each.judged else replace(each, score=None, label="", correction="")),
    max_size=12,
)


def lines_of(candidates: dict[str, Candidate]) -> list[bytes]:
    rows, _ = trafficrows.chosen(candidates.values(), Counts(), max_rows=1_000, max_bytes=1_000_000)
    return [each.line for each in rows]


@given(EXCHANGES, st.sampled_from(FORMATS))
def test_no_row_holds_an_answer_that_nobody_praised(exchanges: list[Exchange], dataset_format: str) -> None:
    praised = {each.output_text for each in exchanges if each.judged and each.liked}
    found, _ = trafficrows.made(exchanges, dataset_format)
    for each in exchanges:
        if each.output_text not in praised:
            said = json.dumps(each.output_text, ensure_ascii=False)[1:-1].encode()
            assert not [line for line in lines_of(found) if said in line]


@given(EXCHANGES, st.sampled_from(FORMATS), st.randoms(use_true_random=False))
def test_the_order_in_which_requests_come_changes_nothing(
    exchanges: list[Exchange], dataset_format: str, random: Any
) -> None:
    exchanges = [replace(each, inference_id=str(number)) for number, each in enumerate(exchanges)]
    mixed = list(exchanges)
    random.shuffle(mixed)
    once, mixed_found = (trafficrows.made(order, dataset_format) for order in (exchanges, mixed))
    assert (lines_of(once[0]), once[1]) == (lines_of(mixed_found[0]), mixed_found[1])


@given(EXCHANGES, st.sampled_from(FORMATS))
def test_rows_are_rows_of_the_format_and_what_was_cut_once_is_not_cut_again(
    exchanges: list[Exchange], dataset_format: str
) -> None:
    found, _ = trafficrows.made(exchanges, dataset_format)
    lines = lines_of(found)
    if not lines:
        return
    scan = Scan()
    for line in lines:
        scan.feed(line)
    summary = scan.summary()
    assert (summary.format, summary.rows) == (dataset_format, len(lines))
    there = {trafficrows.fingerprint(json.loads(line), dataset_format) for line in lines}
    assert there == set(found), "so that the next cut finds every one of them there already"
    assert len(there) == len(lines)


@given(st.lists(st.sampled_from([b"{}", b'{"a": 1}', b"", b" ", b"x\r"]), max_size=8), st.integers(1, 9), st.booleans())
def test_lines_do_not_depend_on_how_the_bytes_are_cut(lines: list[bytes], piece_bytes: int, ended: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    pieces = [data[start : start + piece_bytes] for start in range(0, len(data), piece_bytes)]
    assert list(trafficrows.lines(pieces)) == [line + b"\n" for line in lines if line.strip()]
