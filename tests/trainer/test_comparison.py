"""Paired differences, and which rows may be compared on: values only."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.trainer import fingerprints
from services.trainer.comparison import Comparison, NotComparableError, of_one_task, paired, sentence, unseen

VALUES = st.lists(
    st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    min_size=5,
    max_size=64,
)


@given(VALUES)
def test_the_standard_error_is_that_of_the_paired_t_test(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = ([pair[place] for pair in pairs] for place in (0, 1))
    found = paired(ours, theirs, metric="row_loss", version=1, left_out=0)
    assert found.standard_error == pytest.approx(stats.sem(np.subtract(ours, theirs)), rel=1e-9, abs=1e-9)
    assert found.value == pytest.approx(np.mean(ours), abs=1e-9)
    assert found.champion_value == pytest.approx(np.mean(theirs), abs=1e-9)
    spread = np.std(np.subtract(ours, theirs))
    if spread > 1e-3:
        statistic = (found.value - found.champion_value) / found.standard_error
        assert statistic == pytest.approx(stats.ttest_rel(ours, theirs).statistic, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs", "error"),
    [
        ([1, 1, 1, 1, 1], [2, 2, 2, 2, 2], 0.0),  # hard rows are hard for both
        ([1, 2, 3, 4, 5], [2, 3, 4, 5, 6], 0.0),
        ([1, 0, 1, 0, 1], [0, 0, 0, 0, 0], math.sqrt(0.3 / 5)),
    ],
)
def test_by_hand(ours: list[float], theirs: list[float], error: float) -> None:
    assert paired(ours, theirs, metric="accuracy", version=1, left_out=None).standard_error == pytest.approx(error)


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [([1.0] * 4, [1.0] * 4, "only 4 rows"), ([1.0] * 4 + [math.nan], [1.0] * 5, "finite"), ([], [], "only 0 rows")],
)
def test_nothing_is_claimed_of(ours: list[float], theirs: list[float], why: str) -> None:
    with pytest.raises(NotComparableError, match=why):
        paired(ours, theirs, metric="row_loss", version=1, left_out=0)


FOUND = Comparison("row_loss", 1.25, 1.5, 30, 0.02, 3, 2)


def test_it_comes_back_from_its_file_and_is_told_in_a_sentence() -> None:
    assert Comparison.from_json(FOUND.to_json()) == FOUND
    assert "version 3" in sentence(FOUND)
    assert "2 held-out rows were left out" in sentence(FOUND)


@pytest.mark.parametrize(
    "harm",
    [
        {"value": math.nan},
        {"standard_error": -1},
        {"standard_error": math.inf},
        {"metric": "vanity"},
        {"metric": []},
        {"sample_size": 1},
        {"sample_size": "many"},
        {"champion_version": -1},
        {"more": 1},
    ],
)
def test_a_file_that_claims_nonsense_is_refused(harm: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no comparison"):
        Comparison.from_json(json.dumps(json.loads(FOUND.to_json()) | harm).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_file_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (json's own words differ)
        Comparison.from_json(data)


def test_rows_are_known_again_by_what_they_say() -> None:
    lines = [b'{"a": 1, "b": "x"}\n', b"\n", b'{"b":"x","a":1}\n', b'{"a": 2, "b": "x"}\n', b'{"a": "1", "b": "x"}\n']
    found = dict(fingerprints.of_lines(lines))
    assert list(found) == [1, 3, 4, 5]
    assert found[1] == found[3]
    assert len(set(found.values())) == 3
    kept, others = fingerprints.split(lines, {1, 4}) or ({}, set())
    assert kept == {1: found[1], 4: found[4]}
    assert others == {found[3], found[5]}
    assert unseen([found[1], found[4]], others) == [1], "the dataset says the same in a row that was trained on"
    assert fingerprints.to_text(others).split() == sorted(others)


def test_of_too_many_rows_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "MAX_ROWS", 3)
    assert fingerprints.split((b'{"a": %d}' % number for number in range(4)), set()) is not None
    assert fingerprints.split((b'{"a": %d}' % number for number in range(5)), set()) is None


ADAPTER = {"kind": "adapter", "method": "lora", "format": "messages", "labels": []}


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (ADAPTER, ""),
        (ADAPTER | {"format": "text"}, ""),
        (ADAPTER | {"method": "qlora"}, "4 bits"),
        (ADAPTER | {"kind": "transformers"}, "kind"),
        (ADAPTER | {"format": "classification", "labels": ["a", "b"]}, "classes"),
        ({}, "kind"),
    ],
)
def test_what_can_be_compared(theirs: dict[str, object], why: str) -> None:
    found = of_one_task(ADAPTER, theirs)
    assert bool(found) == bool(why)
    assert why in found


def test_code_is_compared_with_itself_alone() -> None:
    ours = {"kind": "own-model", "code_uri": "s3://b/1"}
    assert of_one_task(ours, dict(ours)) == ""
    assert "other code" in of_one_task(ours, ours | {"code_uri": "s3://b/2"})
