"""Budgets and reference texts: the monitor's decisions as tables."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.domain import asked_text, sample, thresholds_reached


@pytest.mark.parametrize(
    ("spent", "budget", "told", "reached"),
    [
        (49, 100, 0.0, []),
        (50, 100, 0.0, [0.5]),
        (50, 100, 0.5, []),
        (85, 100, 0.0, [0.5, 0.8]),
        (100, 100, 0.8, [1.0]),
        (500, 100, 1.0, []),
        (500, None, 0.0, []),
        (0, 0, 0.0, []),
    ],
)
def test_budget_thresholds(spent: int, budget: int | None, told: float, reached: list[float]) -> None:
    assert thresholds_reached(spent, budget, told) == reached


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"text": "a story"}, "a story"),
        ({"prompt": "a question", "completion": "an answer"}, "a question"),
        ({"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}, "q"),
        (
            {
                "messages": [
                    {"role": "system", "content": "s"},
                    {"role": "user", "content": "first"},
                    {"role": "assistant", "content": "a"},
                    {"role": "user", "content": "last"},
                    {"role": "assistant", "content": "b"},
                ]
            },
            "last",
        ),
        ({"messages": [{"role": "assistant", "content": "a"}]}, None),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, None),
        ({"messages": ["no message"]}, None),
        ({"label": 3}, None),
        ({"text": None}, None),
    ],
)
def test_what_a_row_of_training_data_asks(row: dict[str, Any], text: str | None) -> None:
    assert asked_text(row) == text


@given(st.lists(st.text(max_size=3), max_size=60), st.integers(1, 20), st.integers(0, 2**32))
def test_a_sample_is_part_of_the_texts_and_repeatable(texts: list[str], size: int, seed: int) -> None:
    drawn = sample(texts, random.Random(seed), size)
    assert drawn == sample(texts, random.Random(seed), size)
    assert len(drawn) == min(size, len(texts))
    left = list(texts)
    for text in drawn:
        left.remove(text)


def test_every_text_has_the_same_chance() -> None:
    counts = [0] * 10
    for seed in range(4000):
        for text in sample(map(str, range(10)), random.Random(seed), 3):
            counts[int(text)] += 1
    assert all(abs(count - 1200) < 150 for count in counts)
