"""The drift test on real text: it stays quiet while nothing changes and speaks within tens of samples when it does."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.drift import EXPONENTS, Martingale, Reference, features, p_value, tie_break
from tests.monitor.texts import jokes, questions

ALPHA = 0.01


def samples_until_alarm(reference: Reference, stream: list[str], dice: random.Random) -> int | None:
    test = Martingale()
    for text in stream:
        score = reference.novelty(text)
        test = test.observe(score, p_value(score, reference.calibration, test.scores, dice.random()))
        if test.capital >= 1 / ALPHA:
            return test.samples
    return None


def split(texts: list[str], dice: random.Random) -> tuple[Reference, list[str]]:
    """A reference of two thirds of the texts; the rest was never seen."""
    shuffled = list(texts)
    dice.shuffle(shuffled)
    cut = len(shuffled) * 2 // 3
    return Reference.fit(shuffled[:cut]), shuffled[cut:]


@pytest.mark.parametrize(
    ("usual", "new", "new_share", "within"),
    [
        ("trivia", "jokes", 1.0, 40),
        ("trivia", "psychology", 1.0, 40),
        ("coding", "psychology", 1.0, 40),
        ("trivia", "jokes", 0.5, 200),
        ("trivia", "psychology", 0.5, 200),
        ("coding", "ai", 0.5, 200),
    ],
)
def test_a_change_of_topic_is_detected(usual: str, new: str, new_share: float, within: int) -> None:
    for seed in range(5):
        dice = random.Random(seed)
        reference, unseen = split(questions(usual), dice)
        others = jokes() if new == "jokes" else questions(new)
        before = [dice.choice(unseen) for _ in range(20)]
        after = [dice.choice(others if dice.random() < new_share else unseen) for _ in range(within)]
        found = samples_until_alarm(reference, before + after, dice)
        assert found is not None, f"seed {seed}: not within {within} samples"
        assert found > len(before), f"seed {seed}: {found} is a false alarm"


def test_false_alarms_are_as_rare_as_asked_for() -> None:
    """500 exchangeable streams, looked at after each of 300 samples: at 5 % some 25 alarm at most, 40 hardly ever."""
    alarms = 0
    for seed in range(500):
        dice = np.random.default_rng(seed)
        scores = dice.random(400)
        test = Martingale()
        for score in scores[100:]:
            test = test.observe(float(score), p_value(float(score), scores[:100], test.scores, float(dice.random())))
            if test.capital >= 20:
                alarms += 1
                break
    assert alarms <= 40


def test_unseen_text_of_the_same_topic_raises_no_alarm() -> None:
    for seed in range(5):
        dice = random.Random(seed)
        reference, unseen = split(questions("trivia"), dice)
        assert samples_until_alarm(reference, unseen * 3, dice) is None


def test_the_gamblers_capital_is_a_martingale() -> None:
    """Whatever they hold, the mean over uniform p-values is what they had (the integral of e p^(e-1) is 1)."""
    test = Martingale()
    for p in (0.5, 0.01, 0.2):
        test = test.observe(0.0, p)
    # Mean over p by substitution p = u^10, which tames the pole at 0.
    u = (np.arange(200_000) + 0.5) / 200_000
    newly_bet = 1 / (4 * 5)
    mean_bets = [(e * u ** (10 * (e - 1)) * 10 * u**9).mean() for e in EXPONENTS]
    cash = 1 / 5
    mean = cash + float(np.mean((np.array(test.stakes) + newly_bet) * mean_bets))
    assert mean == pytest.approx(test.capital, rel=1e-3)


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0, 1), st.floats(0, 0.999))
def test_a_p_value_is_a_probability(others: list[float], score: float, die: float) -> None:
    assert 0 < p_value(score, np.array(others), [], die) <= 1


def test_ties_are_spread_by_the_die() -> None:
    told = [p_value(0.5, np.full(9, 0.5), [], die) for die in (0.0, 0.5, 0.999)]
    assert told == pytest.approx([1.0, 0.5, 0.001])


def test_what_redaction_masks_is_no_feature() -> None:
    assert features("Call 555-1234 or mail me@example.com") == features("Call [number] or mail [email]")
    assert features("") == {} == features("12345 !!!")


def test_a_die_falls_the_same_way_for_the_same_sample() -> None:
    assert tie_break("inf_1") == tie_break("inf_1") != tie_break("inf_2")
    assert np.mean([tie_break(f"inf_{n}") for n in range(2000)]) == pytest.approx(0.5, abs=0.03)


def test_too_small_a_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 24"):
        Reference.fit(["a question"] * 23)
