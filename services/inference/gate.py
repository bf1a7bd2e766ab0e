"""What an evaluation says of a version, before and besides its traffic. No I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.inference.evidence import Interval, mean_difference, proportion_difference, student


class Gate(StrEnum):
    PROMOTE = "promote"  # it is as good as the champion or better
    REFUSE = "refuse"
    UNDECIDED = "undecided"  # the sample is too small to tell; traffic may


@dataclass(frozen=True, slots=True)
class Evaluation:
    """As ModelEvaluated tells it. `standard_error`: of value - champion_value; 0: unknown."""

    metric: str
    value: float
    champion_value: float
    sample_size: int
    standard_error: float = 0.0
    champion_version: int | None = None  # None: the event does not say


# Metrics of which less is better; of all others more is. By their last word: "eval_loss", "toxicity_rate".
LESS_IS_BETTER = frozenset({"loss", "perplexity", "error", "errors", "latency", "toxicity", "cost"})
GATE_Z = 1.96  # 95 %, two-sided


def less_is_better(metric: str) -> bool:
    return metric.lower().removesuffix("_rate").rsplit("_", 1)[-1] in LESS_IS_BETTER


def improvement(evaluation: Evaluation) -> Interval | None:
    """By how much the version is better, in the metric's own unit; None: the event does not say how sure it is.

    With a standard error Student's interval of so many differences, else Newcombe's for what is a proportion by its
    name or range.
    """
    if evaluation.sample_size < 1 or not all(map(math.isfinite, (evaluation.value, evaluation.champion_value))):
        return None
    if evaluation.standard_error > 0 and math.isfinite(evaluation.standard_error):
        quantile = student(GATE_Z, evaluation.sample_size - 1)
        found = mean_difference(evaluation.value, evaluation.champion_value, evaluation.standard_error, quantile)
    elif is_proportion(evaluation):
        found = proportion_difference(evaluation.value, evaluation.champion_value, evaluation.sample_size, GATE_Z)
    else:
        return None
    return Interval(-found.high, -found.low) if less_is_better(evaluation.metric) else found


def is_proportion(evaluation: Evaluation) -> bool:
    """Losses are not, also where they happen to be below 1."""
    last = evaluation.metric.lower().rsplit("_", 1)[-1]
    named = last not in ("loss", "perplexity", "latency", "cost")
    return named and 0.0 <= evaluation.value <= 1.0 and 0.0 <= evaluation.champion_value <= 1.0


def gate(evaluation: Evaluation, margin: float) -> tuple[Gate, str]:
    """Whether the version may become the champion by this metric: it must not be worse by more than `margin`."""
    found = improvement(evaluation)
    numbers = f"{evaluation.metric} {evaluation.value:.4g}, the champion's {evaluation.champion_value:.4g}"
    if found is None:
        return Gate.UNDECIDED, f"{numbers}: without a standard error nobody can tell whether that is chance"
    interval = f"{numbers}: better by {found.low:+.4g} to {found.high:+.4g} (95 %, {evaluation.sample_size} samples)"
    if found.low >= -margin:
        return Gate.PROMOTE, interval
    return (Gate.REFUSE if found.high < -margin else Gate.UNDECIDED), interval


# An evaluation refuses a version that is worse by more than this, in the metric's unit (nats, or shares of 1).
GATE_MARGIN = 0.01


def refused(evaluations: Sequence[Evaluation]) -> str:
    """Why the gate is closed; empty: it is open, or nobody can tell."""
    verdicts = (gate(one, GATE_MARGIN) for one in evaluations)
    return next((reason for verdict, reason in verdicts if verdict == Gate.REFUSE), "")
