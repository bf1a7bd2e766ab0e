"""A new version measured against another model on the same rows: values and their uncertainty. No I/O, no torch.

The pod measures and leaves `evaluation.json` in the result; the service, which gives the version its number, reads it
there and tells it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

EVALUATION = "evaluation.json"
TRAINED_ROWS = "trained_rows.txt"  # one fingerprint a line, sorted
# Fewer differences give no spread to judge by: with 5 Student's t is 2.78 at 95 %, with 3 it is 4.3, with 2 it is 12.7.
MIN_ROWS = 5
MAX_BYTES = 64 * 1024
ROW_LOSS, ACCURACY, PREFERENCE_ACCURACY = "row_loss", "accuracy", "preference_accuracy"
METRICS = frozenset({ROW_LOSS, ACCURACY, PREFERENCE_ACCURACY})


class NotComparableError(Exception):
    """The two cannot be measured by one rule here; the text says why, for the card."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Means over the same rows. `standard_error`: of `value - champion_value`. Version 0: the base alone.

    `left_out`: held-out rows that one of the two had learnt from; None: nobody can tell what the champion had seen.
    """

    metric: str
    value: float
    champion_value: float
    sample_size: int
    standard_error: float
    champion_version: int
    left_out: int | None

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Raises ValueError: of a model as code the file may hold anything."""
        try:
            found = cls(**json.loads(data))
            numbers = (found.value, found.champion_value, found.standard_error)
            sound = all(map(math.isfinite, numbers)) and found.standard_error >= 0 and found.sample_size >= MIN_ROWS
            counts = (found.champion_version, found.left_out or 0)
            whole = all(isinstance(count, int) and 0 <= count < 2**32 for count in (*counts, found.sample_size))
            known = found.metric in METRICS
        except (TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"no comparison: {error}") from error
        if not (sound and whole and known):
            raise ValueError("no comparison: its figures are out of range")
        return found


def paired(
    values: Sequence[float], champion_values: Sequence[float], *, metric: str, version: int, left_out: int | None
) -> Comparison:
    """From each row's value under both. Raises NotComparableError: too few rows, or a figure that is none.

    The standard error of the mean of n paired differences d: sqrt(sum((d - mean(d))^2) / (n - 1) / n). What makes a row
    hard is hard for both and falls out, so it is smaller than Welch's of two samples. Student, "The probable error of a
    mean" (1908); for evaluations Miller, "Adding Error Bars to Evals" (2024), section 4.2.
    """
    count = len(values)
    if count < MIN_ROWS:
        raise NotComparableError(f"only {count} rows are left to compare on; at least {MIN_ROWS} are needed")
    if not all(map(math.isfinite, (*values, *champion_values))):
        raise NotComparableError("a loss is not a finite number")
    differences = [ours - theirs for ours, theirs in zip(values, champion_values, strict=True)]
    mean = math.fsum(differences) / count
    variance = math.fsum((each - mean) ** 2 for each in differences) / (count - 1)
    return Comparison(
        metric=metric,
        value=math.fsum(values) / count,
        champion_value=math.fsum(champion_values) / count,
        sample_size=count,
        standard_error=math.sqrt(variance / count),
        champion_version=version,
        left_out=left_out,
    )


def unseen(fingerprints: Sequence[str], *learnt: Iterable[str]) -> list[int]:
    """The places of those rows that nobody has learnt from."""
    seen = set().union(*learnt)
    return [place for place, fingerprint in enumerate(fingerprints) if fingerprint not in seen]


def sentence(found: Comparison) -> str:
    """For the card."""
    whom = f"version {found.champion_version}" if found.champion_version else "the base alone"
    seen = {
        None: " What the champion was trained on is not known: some of these rows may have been among it, "
        "which would flatter it.",
        0: "",
    }
    left_out = seen.get(
        found.left_out, f" {found.left_out} held-out rows were left out, which one of the two had learnt."
    )
    return (
        f"On the same {found.sample_size} held-out rows: {found.metric} {found.value:.4f}, of {whom} "
        f"{found.champion_value:.4f}; the difference {found.value - found.champion_value:+.4f} has a standard error of "
        f"{found.standard_error:.4f} (paired).{left_out}"
    )


def of_one_task(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Why results that declare themselves so cannot be compared; empty: they can."""
    if theirs.get("kind") != ours.get("kind"):
        return f"it is of kind {theirs.get('kind')!r}, this one of {ours.get('kind')!r}"
    if ours.get("kind") == "own-model":
        return "" if theirs.get("code_uri") == ours.get("code_uri") else "it was made from other code"
    if _task(theirs) != _task(ours):
        return "it has another task or other classes"
    if (theirs.get("method") == "qlora") != (ours.get("method") == "qlora"):
        return "only one of the two was trained over a base in 4 bits"
    return ""


def _task(declared: dict[str, Any]) -> tuple[str, list[Any]]:
    language = ("text", "messages", "prompt-completion", "preference")
    kind = "language" if declared.get("format") in language else str(declared.get("format"))
    return kind, list(declared.get("labels") or ())
