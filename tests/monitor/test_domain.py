"""Retraining, budgets and reference texts: the monitor's decisions as tables."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.domain import Endpoint, Rules, asked_text, refuse_retrain, sample, thresholds_reached

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ENDPOINT = Endpoint("endpoint_1", "tenant_1", "model_1", 1)
RULES = Rules(retrain_cooldown_seconds=3600)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("endpoint", "rules", "rule"),
    [
        (ENDPOINT, RULES, None),
        (ENDPOINT, replace(RULES, retrain_enabled=False), "disabled"),
        (replace(ENDPOINT, deleted=True), RULES, "disabled"),
        (ENDPOINT.requested("retrain_1", ago(5)), RULES, "in-flight"),
        (ENDPOINT.requested("retrain_1", ago(5)).retraining_by("job_2"), RULES, "in-flight"),
        (ENDPOINT.requested("retrain_1", ago(90_000)).retraining_by("job_2"), RULES, "in-flight"),
        # The request was lost: it blocks for ten minutes as in flight, then by the cooldown, then not at all.
        (ENDPOINT.requested("retrain_1", ago(700)), RULES, "cooldown"),
        (ENDPOINT.requested("retrain_1", ago(3700)), RULES, None),
        (ENDPOINT.retraining_by("job_2").retrain_ended("job_2", ago(3599)), RULES, "cooldown"),
        (ENDPOINT.retraining_by("job_2").retrain_ended("job_2", ago(3600)), RULES, None),
        (ENDPOINT.retraining_by("job_2").retrain_ended("another", ago(9999)), RULES, "in-flight"),
        (ENDPOINT, replace(RULES, retrain_budget_usd_per_30_days=2.5), None),
        (ENDPOINT, replace(RULES, retrain_budget_usd_per_30_days=2.0), "budget"),
    ],
)
def test_when_a_drifted_model_is_trained_again(endpoint: Endpoint, rules: Rules, rule: str | None) -> None:
    refusal = refuse_retrain(endpoint, "job_1", 2.0, rules, NOW)
    assert (refusal.rule if refusal else None) == rule


def test_a_model_that_no_job_made_cannot_be_made_again() -> None:
    refusal = refuse_retrain(ENDPOINT, "", 0.0, RULES, NOW)
    assert refusal is not None
    assert refusal.rule == "disabled"


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
