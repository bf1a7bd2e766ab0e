"""Rows to train on, made of what an endpoint was asked: which requests teach, and what a row of them is. Pure.

A correction teaches, and an answer that was praised. An answer that nobody judged teaches nothing: a model that learns
from its own words drifts away from people's. Of plain text only what users sent is used without a judgement.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import IntEnum
from typing import Any

from sskai.redaction import MAX_CHARACTERS, redacted

FORMATS = ("messages", "prompt-completion", "text")
LIKED_FROM = 0.5  # a score, of [0, 1]
PRAISE = "up"  # the label that says so, as inference has it
CUT_SHORT = "length"  # why an answer ended that is no whole answer

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exchange:
    """A sampled request with the newest word on its answer. `given_at` None: nobody said one."""

    inference_id: str
    at: datetime
    input_text: str
    output_text: str
    error: str = ""
    finish_reason: str = ""
    score: float | None = None
    label: str = ""
    correction: str = ""
    given_at: datetime | None = None

    @property
    def liked(self) -> bool:
        return self.score >= LIKED_FROM if self.score is not None else self.label.lower() == PRAISE

    @property
    def judged(self) -> bool:
        return self.given_at is not None


class Kind(IntEnum):
    """What a row is made of, the most worth first."""

    CORRECTION = 0
    LIKED = 1
    INPUT = 2


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that may be trained on."""

    kind: Kind
    at: datetime
    inference_id: str
    row: Row
    fingerprint: str
    redacted: bool  # something more was blanked in it

    @property
    def line(self) -> bytes:
        """As it stands in the dataset."""
        return json.dumps(self.row, ensure_ascii=False).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Counts:
    """What was made of the requests, in the contract's words (`DatasetLineage`)."""

    corrections: int = 0
    liked: int = 0
    inputs: int = 0
    duplicates: int = 0
    too_long: int = 0
    over_limit: int = 0
    redacted: int = 0

    @property
    def rows(self) -> int:
        return self.corrections + self.liked + self.inputs

    def as_dict(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def made(exchanges: Iterable[Exchange], dataset_format: str) -> tuple[dict[str, Candidate], Counts]:
    """What the requests teach, by fingerprint and each thing once, and what was left out."""
    found: dict[str, Candidate] = {}
    duplicates = too_long = 0
    for exchange in sorted(exchanges, key=lambda each: (each.at, each.inference_id)):
        kind = kind_of(exchange, dataset_format)
        if kind is None:
            continue
        if is_cut(exchange, kind):
            too_long += 1
            continue
        candidate = _candidate(exchange, kind, dataset_format)
        if candidate is None:
            continue
        before = found.get(candidate.fingerprint)
        duplicates += before is not None
        if before is None or candidate.kind <= before.kind:  # of two that say the same, the newer of the better kind
            found[candidate.fingerprint] = candidate
    return found, Counts(duplicates=duplicates, too_long=too_long)


def kind_of(exchange: Exchange, dataset_format: str) -> Kind | None:
    """What this request teaches; None: nothing."""
    if not exchange.input_text.strip():
        return None
    if exchange.correction.strip():
        return Kind.CORRECTION
    if exchange.judged:
        answered = bool(exchange.output_text.strip()) and not exchange.error
        return Kind.LIKED if exchange.liked and answered else None
    return Kind.INPUT if dataset_format == "text" and not exchange.error else None


def is_cut(exchange: Exchange, kind: Kind) -> bool:
    """Whether a text ends where a limit was, and not where its author ended it."""
    answer = {Kind.CORRECTION: exchange.correction, Kind.LIKED: exchange.output_text, Kind.INPUT: ""}[kind]
    if kind is Kind.LIKED and exchange.finish_reason == CUT_SHORT:
        return True
    return max(len(exchange.input_text), len(answer)) >= MAX_CHARACTERS


def _candidate(exchange: Exchange, kind: Kind, dataset_format: str) -> Candidate | None:
    """None: nothing is left of it once it is redacted."""
    texts = [exchange.input_text]
    if kind is not Kind.INPUT:
        texts.append(exchange.correction if kind is Kind.CORRECTION else exchange.output_text)
    clean = [redacted(text) for text in texts]
    if not all(text.strip() for text in clean):
        return None
    row = _row(clean, dataset_format)
    return Candidate(
        kind, exchange.at, exchange.inference_id, row, fingerprint(row, dataset_format), redacted=clean != texts
    )


def _row(texts: list[str], dataset_format: str) -> Row:
    if dataset_format == "messages":
        roles = zip(("user", "assistant"), texts, strict=True)
        return {"messages": [{"role": role, "content": text} for role, text in roles]}
    if dataset_format == "prompt-completion":
        return dict(zip(("prompt", "completion"), texts, strict=True))
    return {"text": "\n\n".join(texts)}


def fingerprint(row: Row, dataset_format: str) -> str:
    """Equal for rows that say the same, but for capitals, spaces, and how characters and sentences' ends are written.

    What a system message says is no part of it: the same question and answer under another one teach the same.
    """
    if dataset_format == "messages":
        said = [f"{turn['role']}:{turn['content']}" for turn in row["messages"] if turn["role"] != "system"]
    elif dataset_format == "prompt-completion":
        said = [row["prompt"], row["completion"]]
    else:
        said = [row["text"]]
    return hashlib.blake2b("\0".join(map(normalised, said)).encode(), digest_size=16).hexdigest()


def normalised(text: str) -> str:
    """Of Unicode's compatible forms one (NFKC), without capitals, with single spaces, without marks at the end."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"\s+", " ", plain).strip().rstrip(" .!?…")


def chosen(
    candidates: Iterable[Candidate], counts: Counts, *, max_rows: int, max_bytes: int
) -> tuple[list[Candidate], Counts]:
    """As many as there is room for: corrections first, the newest first; in the order in which they were asked."""
    best = sorted(candidates, key=lambda each: (each.at, each.inference_id), reverse=True)
    best.sort(key=lambda each: each.kind)  # stable: the newest stay first
    kept: list[Candidate] = []
    room_bytes = max_bytes
    for candidate in best:
        size = len(candidate.line)
        if len(kept) < max_rows and size <= room_bytes:
            kept.append(candidate)
            room_bytes -= size
    kept.sort(key=lambda each: (each.at, each.inference_id))
    numbers = {kind: sum(each.kind is kind for each in kept) for kind in Kind}
    return kept, replace(
        counts,
        corrections=numbers[Kind.CORRECTION],
        liked=numbers[Kind.LIKED],
        inputs=numbers[Kind.INPUT],
        over_limit=len(best) - len(kept),
        redacted=sum(each.redacted for each in kept),
    )


def under(system: str, candidate: Candidate) -> Candidate:
    """The same row of messages with a system message before them."""
    first = {"role": "system", "content": system}
    return replace(candidate, row={"messages": [first, *candidate.row["messages"]]})


def system_of(row: Row) -> str:
    """What its system message says; empty: it has none."""
    turns = row.get("messages") or [{}]
    return str(turns[0].get("content", "")) if turns[0].get("role") == "system" else ""


def max_new_rows(rows: int, share: float) -> int:
    """So that they are at most this share of all rows."""
    return int(rows * share / (1 - share) + 1e-9)


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a file that say something, each with its end; in memory bounded by the longest one."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole if line.strip())
    if rest.strip():
        yield rest + b"\n"
