"""What of an endpoint's traffic is tested for drift, against what, and with which part of the allowed false alarms.

Every stream is one number of each sample, with a test of its own (`drift.py`) against each of its references:

- the training data: is the model asked what it was trained for?
- the healthy window: the version's first samples, unless they had already drifted from the training data. Answers,
  labels and faults have no other reference.

The chance alpha that a version's tests ever raise a false alarm is shared out among them (`Stream.shares`, which sum to
one): a test with the share s alarms when its capital reaches 1 / (alpha s), so by Ville's inequality and the sum over
tests the chance of any false alarm is at most alpha. A stream of shares (topics, classes) splits its part again among
its members.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from services.monitor.drift import COUNT, FLAG, NATS, SHARE, Scale, Sides
from services.monitor.drift_texts import Texts, Vector, words
from sskai.redaction import MAX_CHARACTERS


class Reference(StrEnum):
    TRAINING = "training-data"
    WINDOW = "healthy-window"


@dataclass(frozen=True, slots=True)
class Stream:
    """`unit`: of the value, as a person reads its mean. `shares`: of alpha, by reference."""

    name: str
    unit: str
    scale: Scale
    sides: Sides
    shares: Mapping[Reference, float]


def _shares(training: float, window: float) -> Mapping[Reference, float]:
    shares = {Reference.TRAINING: training, Reference.WINDOW: window}
    return {reference: share for reference, share in shares.items() if share}


_SAMPLED = (
    Stream("input-vocabulary", "novelty from 0 to 1", SHARE, Sides.UP, _shares(0.12, 0.08)),
    Stream("input-content", "novelty of rare words from 0 to 1", SHARE, Sides.UP, _shares(0.12, 0.08)),
    Stream("input-topic", "share of requests", FLAG, Sides.UP, _shares(0.06, 0.06)),
    Stream("input-length", "words", COUNT, Sides.BOTH, _shares(0.04, 0.03)),
    Stream("input-tokens", "tokens", COUNT, Sides.BOTH, _shares(0.0, 0.03)),
    Stream("input-script", "share of requests", FLAG, Sides.UP, _shares(0.02, 0.02)),
    Stream("input-empty", "share of requests", FLAG, Sides.UP, _shares(0.0, 0.02)),
    Stream("input-undecodable", "share of requests", FLAG, Sides.UP, _shares(0.0, 0.02)),
    Stream("input-cut", "share of requests", FLAG, Sides.UP, _shares(0.0, 0.02)),
    Stream("output-vocabulary", "novelty from 0 to 1", SHARE, Sides.UP, _shares(0.0, 0.04)),
    Stream("output-content", "novelty of rare words from 0 to 1", SHARE, Sides.UP, _shares(0.0, 0.04)),
    Stream("output-class", "share of answers", FLAG, Sides.UP, _shares(0.0, 0.05)),
    Stream("output-length", "tokens", COUNT, Sides.BOTH, _shares(0.0, 0.03)),
    Stream("output-entropy", "nats per token", NATS, Sides.BOTH, _shares(0.0, 0.02)),
    Stream("output-refusal", "share of answers", FLAG, Sides.UP, _shares(0.0, 0.03)),
    Stream("output-empty", "share of answers", FLAG, Sides.UP, _shares(0.0, 0.01)),
    Stream("output-error", "share of requests", FLAG, Sides.UP, _shares(0.0, 0.02)),
)
_LABELLED = (
    Stream("quality-score", "lost score from 0 to 1", SHARE, Sides.UP, _shares(0.0, 0.02)),
    Stream("quality-loss", "loss from 0 to 1", SHARE, Sides.UP, _shares(0.0, 0.02)),
)
STREAMS: Mapping[str, Stream] = {stream.name: stream for stream in (*_SAMPLED, *_LABELLED)}
# Streams of what users say of answers: their windows fill apart from the samples'.
LABELLED = frozenset(stream.name for stream in _LABELLED)

MAX_CLASSES = 8  # told apart by name; the others are one class more
_OTHERS = "(others)"
MAX_CLASS_CHARACTERS = 64
MAX_DIFFERENT_CLASSES = 20

_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) (?:sorry|unable|not able|afraid i can)|i (?:can(?:'t|not| not)|won't|will not|must decline)"
    r"|i do(?:n't| not) (?:feel comfortable|have the ability)|as an ai\b"
    r"|(?:cannot|can't|unable to) (?:assist|help) with)",
    re.IGNORECASE,
)
_REFUSAL_CHARACTERS = 200  # an answer refuses at its beginning or not at all
_UNDECODABLE = re.compile("[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and its answer, redacted. `error`: why there is no answer; empty: there is one."""

    inference_id: str
    input_text: str
    output_text: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    mean_logprob: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """What was learnt from the texts of a healthy window. None and (): too little for that."""

    inputs: Texts | None
    outputs: Texts | None
    classes: tuple[str, ...] = ()
    class_values: tuple[str, ...] = ()  # of the second half, which the classes were not drawn from

    @classmethod
    def fit(cls, inputs: Sequence[str], outputs: Sequence[str]) -> Window:
        classes = _classes(outputs)
        return cls(
            inputs=_fitted(inputs),
            outputs=None if classes else _fitted(outputs),
            classes=classes,
            class_values=tuple(map(_class, outputs[len(outputs) // 2 :])) if classes else (),
        )


@dataclass(frozen=True, slots=True)
class References:
    """What a version's tests compare with, as far as it is there."""

    training: Texts | None = None
    window: Window | None = None

    def inputs(self, reference: Reference) -> Texts | None:
        """What requests are like in it."""
        if reference is Reference.TRAINING:
            return self.training
        return self.window.inputs if self.window else None


def _fitted(texts: Sequence[str]) -> Texts | None:
    try:
        return Texts.fit(texts)
    except ValueError:  # too few of them
        return None


def _class(output: str) -> str:
    return output.strip().casefold()


def _classes(outputs: Sequence[str]) -> tuple[str, ...]:
    """The most frequent classes of a classifier's answers; () if the answers are no classes."""
    different = {_class(output) for output in outputs}
    few = 2 <= len(different) <= min(MAX_DIFFERENT_CLASSES, len(outputs) // 5)
    if not few or any(len(one) > MAX_CLASS_CHARACTERS for one in different):
        return ()
    known = Counter(map(_class, outputs[: len(outputs) // 2])).most_common(MAX_CLASSES)
    return (*(name for name, _ in known), _OTHERS)


def plain_values(sample: Sample) -> dict[str, float]:
    """The streams of a sample that need no reference to be counted."""
    text = sample.input_text
    values: dict[str, float] = {
        "input-empty": not text.strip(),
        "input-undecodable": _UNDECODABLE.search(text) is not None,
        "input-cut": len(text) >= MAX_CHARACTERS,
        "output-error": bool(sample.error),
    }
    if length := len(words(text)):
        values["input-length"] = length
    if sample.input_tokens:
        values["input-tokens"] = sample.input_tokens
    if sample.error:
        return values
    values["output-empty"] = not sample.output_text.strip()
    values["output-refusal"] = is_refusal(sample.output_text)
    if sample.output_tokens:
        values["output-length"] = sample.output_tokens
    if sample.output_tokens and sample.mean_logprob and math.isfinite(sample.mean_logprob):
        # The mean of -log p over tokens drawn from p estimates the entropy of what the model could have said.
        values["output-entropy"] = -sample.mean_logprob
    return values


def is_refusal(answer: str) -> bool:
    """Whether an answer begins as refusals in English do."""
    beginning = answer[:_REFUSAL_CHARACTERS].replace("\u2019", "'")
    return _REFUSAL.search(beginning) is not None


def input_values(text: str, of: Vector, fitted: Texts) -> dict[str, float]:
    """The streams of a request that are counted against a fitted reference; none of one without words."""
    if of.empty:
        return {}
    topic = fitted.topic(of)
    return {
        "input-vocabulary": fitted.novelty(of),
        "input-content": fitted.content_novelty(of),
        "input-script": fitted.is_foreign(text),
        **{f"input-topic/{number}": topic == number for number in range(len(fitted.topic_words))},
    }


def input_reference(fitted: Texts) -> dict[str, Sequence[float]]:
    """The reference's own values of those streams."""
    total = sum(fitted.topic_counts)
    return {
        "input-vocabulary": fitted.novelties,
        "input-content": fitted.content_novelties,
        "input-script": fitted.foreign,
        **{
            f"input-topic/{number}": [1.0] * count + [0.0] * (total - count)
            for number, count in enumerate(fitted.topic_counts)
        },
    }


def output_values(text: str, of: Vector, window: Window) -> dict[str, float]:
    """The streams of an answer that are counted against a window."""
    values: dict[str, float] = {}
    if window.outputs and not of.empty:
        values["output-vocabulary"] = window.outputs.novelty(of)
        values["output-content"] = window.outputs.content_novelty(of)
    if window.classes:
        found = _class(text) if _class(text) in window.classes else _OTHERS
        values |= {f"output-class/{number}": found == name for number, name in enumerate(window.classes)}
    return values


def output_reference(window: Window) -> dict[str, Sequence[float]]:
    """The window's own values of those streams."""
    values: dict[str, Sequence[float]] = {}
    if window.outputs:
        values["output-vocabulary"] = window.outputs.novelties
        values["output-content"] = window.outputs.content_novelties
    known = [name if name in window.classes else _OTHERS for name in window.class_values]
    for number, name in enumerate(window.classes):
        values[f"output-class/{number}"] = [float(one == name) for one in known]
    return values


def labelled_values(score: float | None, label: str, correction: str, output_text: str | None) -> dict[str, float]:
    """The streams of what a user said of an answer. `output_text`: of the answer, None if it was not sampled.

    The loss against a correction is 1 - F1 over words, as SQuAD counts overlap (P. Rajpurkar et al., 2016); of a label
    that is no praise or blame, 0 if it is the answer itself, else 1.
    """
    values: dict[str, float] = {}
    if score is not None and math.isfinite(score):
        values["quality-score"] = 1.0 - min(max(score, 0.0), 1.0)
    if output_text is None:
        return values
    if correction.strip():
        values["quality-loss"] = 1.0 - _overlap(words(output_text), words(correction))
    elif label.strip() and score is None:
        values["quality-loss"] = float(_class(label) != _class(output_text))
    return values


def _overlap(said: Sequence[str], wanted: Sequence[str]) -> float:
    common = (Counter(said) & Counter(wanted)).total()
    return 2 * common / (len(said) + len(wanted)) if said or wanted else 1.0
