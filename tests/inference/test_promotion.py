"""What becomes of a new version: every decision from a table, and by chance where chance decides."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference import promotion
from services.inference.gate import Evaluation, Gate, gate, refused
from services.inference.promotion import (
    LATENCY_EDGES,
    NEXT_STAGES,
    Figures,
    Mode,
    Move,
    Rollout,
    Rules,
    Seen,
    Stage,
    bucket_of,
    harmed,
    judge,
)

RULES = Rules(minimum_requests=50, minimum_seconds=10, maximum_seconds=1_000)
QUICK, SLOW = bucket_of(0.1), bucket_of(0.5)


def figures(answers: int = 1_000, *, errors: int = 0, scores: int = 0, score: float = 0.0, slow: int = 0) -> Figures:
    return Figures({QUICK: answers - slow, SLOW: slow}, errors, scores, score * scores)


def seen(canary: Figures, champion: Figures | None = None, **changes: Any) -> Seen:
    values: dict[str, Any] = {
        "endpoint_answers": True,
        "canary_ready": True,
        "canary_failure": "",
        "champion": champion or figures(),
        "canary": canary,
        "seconds_in_step": 20.0,
        "requests_in_step": canary.requests,
    }
    return Seen(**{**values, **changes})


def rollout(**changes: Any) -> Rollout:
    return replace(Rollout("r", "end_1", "tenant_a", "model_1", 2, 1, RULES, Stage.CANARY), **changes)


@pytest.mark.parametrize(
    ("step", "what", "move", "word"),
    [
        (0, seen(figures(100)), Move.ADVANCE, ""),
        (2, seen(figures(100)), Move.PASS, ""),
        (0, seen(figures(49)), Move.STAY, "too little"),
        (0, seen(figures(100), seconds_in_step=9.0), Move.STAY, "too little"),
        (0, seen(figures(49), seconds_in_step=1_001.0), Move.ROLL_BACK, "only 49 of 50"),
        (0, seen(figures(20, errors=20)), Move.ROLL_BACK, "errors"),
        (0, seen(figures(100, errors=3)), Move.STAY, "errors"),  # it may be chance
        (0, seen(figures(100, errors=3), seconds_in_step=1_001.0), Move.ROLL_BACK, "did not change"),
        (0, seen(figures(100, errors=3), figures(970, errors=30)), Move.ADVANCE, ""),
        (0, seen(figures(100, scores=60, score=0.1), figures(scores=60, score=0.9)), Move.ROLL_BACK, "quality"),
        (0, seen(figures(100, scores=5, score=0.6), figures(scores=60, score=0.9)), Move.STAY, "quality"),
        (0, seen(figures(100, scores=60, score=0.9), figures(scores=60, score=0.1)), Move.ADVANCE, ""),
        (0, seen(figures(200, slow=150)), Move.ROLL_BACK, "latency"),
        (0, seen(figures(100, slow=9)), Move.STAY, "latency"),
        (0, seen(figures(100, slow=4)), Move.ADVANCE, ""),
        (0, seen(figures(100, slow=60), figures(slow=600)), Move.ADVANCE, ""),
        # Nobody was left with the champion: it is taken to make no errors.
        (0, seen(figures(20, errors=30), Figures()), Move.ROLL_BACK, "errors"),
        (0, seen(figures(100), Figures()), Move.ADVANCE, ""),
    ],
)
def test_a_canary_is_judged(step: int, what: Seen, move: Move, word: str) -> None:
    verdict = judge(RULES, step, what)
    assert verdict.move == move
    assert word in verdict.reason


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 5_000), st.integers(0, 50))
def test_more_errors_never_help_a_canary(answers: int, errors: int, champions: int, more: int) -> None:
    champion = figures(champions)
    if harmed(RULES, champion, figures(answers, errors=errors)):
        assert harmed(RULES, champion, figures(answers, errors=errors + more))


def test_an_equal_version_is_almost_never_taken_back_however_often_one_looks() -> None:
    """60 rollouts of equal versions with 5 % errors, looked at after every 20 requests: alpha is 5 %, for all rules."""
    dice, taken_back = random.Random(3), 0
    for _ in range(60):
        here, there = figures(0), figures(0)
        for _ in range(25):
            failed = [sum(dice.random() < 0.05 for _ in range(20)) for _ in range(2)]
            here, there = _more(here, failed[0]), _more(there, failed[1])
            if harmed(RULES, there, here):
                taken_back += 1
                break
    assert taken_back <= 3


def _more(before: Figures, failed: int) -> Figures:
    return Figures({QUICK: before.answers + 20 - failed}, before.errors + failed)


@pytest.mark.parametrize(
    ("before", "what", "stage", "step"),
    [
        (rollout(stage=Stage.LOADING), seen(Figures(), canary_ready=False), Stage.LOADING, 0),
        (rollout(stage=Stage.LOADING), seen(Figures()), Stage.CANARY, 0),
        (rollout(stage=Stage.LOADING, rules=replace(RULES, mode=Mode.SUGGEST)), seen(Figures()), Stage.SUGGESTED, 0),
        (rollout(stage=Stage.LOADING, promote_when_loaded=True), seen(Figures()), Stage.PROMOTED, 0),
        (rollout(stage=Stage.LOADING), seen(Figures(), canary_failure="no file"), Stage.ROLLED_BACK, 0),
        (rollout(stage=Stage.SUGGESTED), seen(Figures()), Stage.SUGGESTED, 0),
        (rollout(stage=Stage.SUGGESTED, promote_when_loaded=True), seen(Figures()), Stage.PROMOTED, 0),
        (rollout(), seen(figures(100)), Stage.CANARY, 1),
        (rollout(step=2), seen(figures(100)), Stage.PROMOTED, 2),
        (rollout(step=2, rules=replace(RULES, mode=Mode.APPROVE)), seen(figures(100)), Stage.APPROVAL, 2),
        (rollout(), seen(figures(10, errors=40)), Stage.ROLLED_BACK, 0),
        (rollout(), seen(figures(100), endpoint_answers=False), Stage.ROLLED_BACK, 0),
        (rollout(stage=Stage.APPROVAL), seen(figures(10), seconds_in_step=9e9), Stage.APPROVAL, 0),
        (rollout(stage=Stage.APPROVAL), seen(figures(10, errors=40)), Stage.ROLLED_BACK, 0),
        (rollout(stage=Stage.APPROVAL, promote_when_loaded=True), seen(figures(100)), Stage.PROMOTED, 0),
    ],
)
def test_a_rollout_goes_on(before: Rollout, what: Seen, stage: Stage, step: int) -> None:
    after = promotion.advance(before, what)
    assert (after.stage, after.step) == (stage, step)


def test_a_closed_gate_ends_a_rollout_unless_somebody_has_said_otherwise() -> None:
    worse = Evaluation("eval_loss", 2.5, 2.0, 500, 0.05)
    what = seen(figures(100), evaluations=[worse])
    assert promotion.advance(rollout(), what).stage == Stage.ROLLED_BACK
    assert promotion.advance(rollout(promote_when_loaded=True), what).stage == Stage.PROMOTED


def test_every_stage_may_only_become_what_the_table_says() -> None:
    for stage in Stage:
        for other in Stage:
            before = rollout(stage=stage)
            if other in NEXT_STAGES[stage]:
                assert before.to(other).stage == other
            else:
                with pytest.raises(ValueError, match=f"{stage} -> {other}"):
                    before.to(other)


@pytest.mark.parametrize(
    ("evaluation", "verdict"),
    [
        (Evaluation("eval_loss", 1.9, 2.0, 500, 0.02), Gate.PROMOTE),
        (Evaluation("eval_loss", 2.1, 2.0, 500, 0.02), Gate.REFUSE),
        (Evaluation("eval_loss", 1.99, 2.0, 500, 0.05), Gate.UNDECIDED),
        (Evaluation("eval_loss", 0.5, 0.9, 500), Gate.UNDECIDED),  # a loss is no proportion
        (Evaluation("accuracy", 0.9, 0.8, 1_000), Gate.PROMOTE),
        (Evaluation("accuracy", 0.7, 0.8, 1_000), Gate.REFUSE),
        (Evaluation("accuracy", 0.7, 0.8, 20), Gate.UNDECIDED),
        (Evaluation("error_rate", 0.2, 0.1, 1_000), Gate.REFUSE),
        (Evaluation("error_rate", 0.1, 0.2, 1_000), Gate.PROMOTE),
        (Evaluation("win_rate", 0.6, 0.5, 0), Gate.UNDECIDED),
        (Evaluation("bleu", 31.0, 30.0, 500, 0.2), Gate.PROMOTE),
        (Evaluation("accuracy", float("nan"), 0.8, 500, 0.1), Gate.UNDECIDED),
    ],
)
def test_the_gate(evaluation: Evaluation, verdict: Gate) -> None:
    found, reason = gate(evaluation, 0.01)
    assert found == verdict
    assert evaluation.metric in reason
    assert bool(refused([evaluation])) == (verdict == Gate.REFUSE)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"mode": "always"}, "mode"),
        ({"steps": ()}, "steps"),
        ({"steps": (0.5, 0.25)}, "steps"),
        ({"steps": (0.0, 1.0)}, "steps"),
        ({"steps": (0.5, 1.5)}, "steps"),
        ({"steps": (float("nan"),)}, "steps"),
        ({"steps": tuple(n / 100 for n in range(1, 30))}, "steps"),
        ({"error_tolerance": -1.0}, "tolerances"),
        ({"minimum_seconds": float("inf")}, "tolerances"),
        ({"shadow_fraction": 2.0}, "shadow"),
        ({"minimum_seconds": 100.0, "maximum_seconds": 10.0}, "below"),
    ],
)
def test_rules_that_make_no_sense_are_refused(changes: dict[str, Any], word: str) -> None:
    assert word in Rules(**changes).problem()


def test_rules_come_back_from_json_as_they_were() -> None:
    rules = Rules(steps=(0.1, 1.0), minimum_requests=7, mode=Mode.APPROVE)
    assert Rules.of({"steps": [0.1, 1.0], "minimum_requests": 7, "mode": "approve", "unknown": 1}) == rules
    assert not Rules().problem()


@given(st.floats(0, 5_000))
def test_a_quantile_is_at_most_a_fifth_above_the_truth(seconds: float) -> None:
    found = Figures({bucket_of(seconds): 10}).quantile_seconds(0.95)
    assert found is not None
    if LATENCY_EDGES[0] <= seconds <= LATENCY_EDGES[-1]:
        assert seconds <= found <= 1.2 * seconds * 1.000001
