"""Mutations of what is kept: bits, bytes, pieces that move, repeat or go, other texts and figures in their place."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

MAX_BYTES = 128 * 1024
# What has broken parsers before.
TOKENS = (
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"NaN", b"-Infinity", b"1e400", b"-0", b"[]", b"{}",
    b"null", b"true", b"-1", b"9" * 30, b"9" * 5000, b'"', b"\\", b"\r\n", b"../", b"0001-01-01T00:00:00+23:59",
    b"9999-12-31T23:59:59-23:59", b"[" * 980, b'{"a":' * 980, b"\xef\xbb\xbf", b"__proto__", b"\x80\x04", b"PK\x03\x04",
)  # fmt: skip
_VALUE = re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?|true|false|null|\[\]|\{\}')


def mutated(data: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    """One to four mutations of `data`, with pieces of `others`."""
    for _ in range(dice.randint(1, 4)):
        data = dice.choice(MUTATIONS)(data, others, dice)[:MAX_BYTES]
    return data


def _span(data: bytes, dice: random.Random) -> tuple[int, int]:
    start = dice.randint(0, len(data))
    return start, min(len(data), start + dice.choice((1, 2, 4, 16, 256)))


def _flip(data: bytes, _others: Sequence[bytes], dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4) if data else 0):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _set(data: bytes, _others: Sequence[bytes], dice: random.Random) -> bytes:
    start, end = _span(data, dice)
    return data[:start] + dice.randbytes(end - start) + data[end:]


def _token(data: bytes, _others: Sequence[bytes], dice: random.Random) -> bytes:
    start, end = _span(data, dice)
    return data[:start] + dice.choice(TOKENS) + data[dice.choice((start, end)) :]


def _value(data: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    """Another value in the place of one: the structure stays whole, so that it is seen further inside."""
    found = list(_VALUE.finditer(data))
    if not found:
        return _token(data, others, dice)
    match = dice.choice(found)
    other = list(_VALUE.finditer(dice.choice(others)))
    kinds = [b"[" + match[0] + b"]", b'"' + dice.choice(TOKENS) + b'"', dice.choice(TOKENS)]
    kinds += [dice.choice(other)[0]] if other else []
    return data[: match.start()] + dice.choice(kinds) + data[match.end() :]


def _drop(data: bytes, _others: Sequence[bytes], dice: random.Random) -> bytes:
    start, end = _span(data, dice)
    return data[:start] + data[end:]


def _truncate(data: bytes, _others: Sequence[bytes], dice: random.Random) -> bytes:
    return data[: dice.randint(0, len(data))]


def _repeat(data: bytes, _others: Sequence[bytes], dice: random.Random) -> bytes:
    start, end = _span(data, dice)
    return data[:start] + data[start:end] * dice.choice((2, 3, 100)) + data[end:]


def _splice(data: bytes, others: Sequence[bytes], dice: random.Random) -> bytes:
    other = dice.choice(others)
    return data[: dice.randint(0, len(data))] + other[dice.randint(0, len(other)) :]


MUTATIONS: tuple[Callable[[bytes, Sequence[bytes], random.Random], bytes], ...] = (
    _flip, _set, _token, _value, _value, _value, _drop, _truncate, _repeat, _splice,
)  # fmt: skip
