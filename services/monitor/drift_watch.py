"""The tests of one version on one endpoint: which stand, what each sample does to them, and which alarm. Pure.

A version's watch begins with its first sample. Tests against the training data begin as soon as those are fetched; the
healthy window takes the first samples, and begins anew if a test against the training data alarms before it is full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from services.monitor.drift import Counts, Scale, Test, tie_break
from services.monitor.drift_streams import (
    LABELLED,
    STREAMS,
    Reference,
    References,
    Sample,
    Stream,
    Window,
    input_reference,
    input_values,
    output_reference,
    output_values,
    plain_values,
)
from services.monitor.drift_texts import Texts, vector

# A window in which more than this share of requests failed or was empty is no picture of health.
MAX_FAULTS = 0.5
FAULTS = ("input-empty", "output-error", "output-empty")


@dataclass(frozen=True, slots=True)
class Rules:
    """How sure an alarm must be, and how much is looked at."""

    alpha: float = 0.01
    min_samples: int = 20
    window_samples: int = 200
    window_labels: int = 50


@dataclass(frozen=True, slots=True)
class Alarm:
    """A test that reached its threshold. `member`: which topic or class, else ""."""

    stream: Stream
    reference: Reference
    test: Test
    threshold: float
    alpha: float
    member: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """`tests` by "stream@reference" (of shares: "stream/number@reference"); `collecting`: values of filling windows."""

    tests: Mapping[str, Test] = field(default_factory=dict)
    collecting: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    samples: int = 0
    window_samples: int = 0  # of the present try
    window_ready: bool = False

    def has(self, reference: Reference) -> bool:
        """Whether tests of the samples' texts against this reference stand."""
        return _key("input-vocabulary", reference) in self.tests

    def window_full(self, rules: Rules) -> bool:
        return not self.window_ready and self.window_samples >= rules.window_samples

    def against_training(self, fitted: Texts) -> Watch:
        """With tests against the training data."""
        values = {**input_reference(fitted), "input-length": fitted.word_counts}
        return self._with(Reference.TRAINING, values)

    def healthy(self) -> bool:
        """Whether the window that is full may be a reference."""
        shares = [np.mean(values) for name in FAULTS if (values := self.collecting.get(name))]
        return all(share <= MAX_FAULTS for share in shares)

    def window_anew(self) -> Watch:
        """With a window of samples that begins again; labels are kept."""
        kept = {name: values for name, values in self.collecting.items() if name in LABELLED}
        return replace(self, collecting=kept, window_samples=0)

    def against_window(self, window: Window) -> Watch:
        """With tests against the window that is full."""
        collected = {name: values for name, values in self.collecting.items() if name not in LABELLED}
        values: dict[str, Sequence[float]] = {**collected, **output_reference(window)}
        if window.inputs:
            values |= input_reference(window.inputs)
        kept = {name: values for name, values in self.collecting.items() if name in LABELLED}
        return replace(self._with(Reference.WINDOW, values), collecting=kept, window_ready=True)

    def _with(self, reference: Reference, values: Mapping[str, Sequence[float]]) -> Watch:
        begun = {}
        for name, of in values.items():
            stream = STREAMS[_family(name)]
            if reference in stream.shares and len(of):
                begun[_key(name, reference)] = Test.start(stream.scale, stream.sides, [float(value) for value in of])
        return replace(self, tests={**self.tests, **begun})

    def observe(self, sample: Sample, at_seconds: float, references: References, rules: Rules) -> Step:
        """One sample through every test that stands. `references`: what those tests were begun from."""
        plain = plain_values(sample)
        values = {_key(name, reference): value for name, value in plain.items() for reference in Reference}
        request = vector(sample.input_text)
        for reference in Reference:
            if fitted := references.inputs(reference):
                counted = input_values(sample.input_text, request, fitted)
                values |= {_key(name, reference): value for name, value in counted.items()}
        if references.window and not sample.error:
            counted = output_values(sample.output_text, vector(sample.output_text), references.window)
            values |= {_key(name, Reference.WINDOW): value for name, value in counted.items()}
        watch, alarms = self._observe(values, sample.inference_id, at_seconds, rules)
        watch = replace(watch, samples=self.samples + 1)
        if watch.window_ready:
            return Step(watch, alarms)
        if any(alarm.reference is Reference.TRAINING for alarm in alarms):
            return Step(watch.window_anew(), alarms)
        collecting = dict(watch.collecting)
        for name, value in plain.items():
            collecting[name] = (*collecting.get(name, ()), float(value))
        return Step(replace(watch, collecting=collecting, window_samples=watch.window_samples + 1), alarms)

    def observe_label(self, values: Mapping[str, float], inference_id: str, at_seconds: float, rules: Rules) -> Step:
        """What a user said of an answer, through its tests; the first `window_labels` of a stream are its reference."""
        collecting, begun = dict(self.collecting), {}
        for name, value in values.items():
            if _key(name, Reference.WINDOW) in self.tests:
                continue
            collected = (*collecting.get(name, ()), value)
            if len(collected) < rules.window_labels:
                collecting[name] = collected
            else:
                collecting.pop(name, None)
                begun[name] = collected
        seen = {_key(name, Reference.WINDOW): value for name, value in values.items()}
        watch, alarms = self._observe(seen, inference_id, at_seconds, rules)
        return Step(replace(watch, collecting=collecting)._with(Reference.WINDOW, begun), alarms)

    def _observe(self, values: Mapping[str, float], inference_id: str, at_seconds: float, rules: Rules) -> Step:
        tests, alarms = dict(self.tests), []
        for key, value in values.items():
            if key in tests:
                die = tie_break(f"{key}/{inference_id}")
                tests[key] = tests[key].observe(float(value), die, at_seconds)
        for key in values:
            if key in tests and (alarm := _alarm(key, tests, rules)):
                alarms.append(alarm)
                # One topic's gain is the others' loss: all of them begin anew, or one drift would be told many times.
                for other in _members(_family(alarm.stream.name), alarm.reference, tests):
                    tests[other] = tests[other].anew()
        return Step(replace(self, tests=tests), alarms)


class Step(NamedTuple):
    """A watch after a sample or a label, and what alarmed at it."""

    watch: Watch
    alarms: list[Alarm]


def _alarm(key: str, tests: Mapping[str, Test], rules: Rules) -> Alarm | None:
    test = tests[key]
    if test.capital < 1 / rules.alpha:
        return None  # no test has more of alpha than all of it
    capital = threshold(key, tests, rules.alpha)
    if not test.alarming(capital, rules.min_samples):
        return None
    stream, reference, member = parts(key)
    return Alarm(stream, reference, test, capital, 1 / capital, member)


def threshold(key: str, tests: Mapping[str, Test], alpha: float) -> float:
    """The capital at which a test alarms: 1 / its part of alpha."""
    name, reference = _parts(key)
    members = len(_members(_family(name), reference, tests)) if "/" in name else 1
    return members / (alpha * STREAMS[_family(name)].shares[reference])


def parts(key: str) -> tuple[Stream, Reference, str]:
    """A test's stream, its reference, and the number of its topic or class ("": it has none)."""
    name, reference = _parts(key)
    family, _, member = name.partition("/")
    return STREAMS[family], reference, member


def _members(family: str, reference: Reference, tests: Mapping[str, Test]) -> list[str]:
    return [key for key in tests if _parts(key)[1] is reference and _family(_parts(key)[0]) == family]


def _key(name: str, reference: Reference) -> str:
    return f"{name}@{reference}"


@lru_cache(1024)
def _parts(key: str) -> tuple[str, Reference]:
    name, _, reference = key.partition("@")
    return name, Reference(reference)


def _family(name: str) -> str:
    return name.partition("/")[0]


def to_json(watch: Watch) -> dict[str, Any]:
    """The watch as JSON; counts are pairs of bin and number."""
    return {
        "samples": watch.samples,
        "window_samples": watch.window_samples,
        "window_ready": watch.window_ready,
        "collecting": {name: list(values) for name, values in watch.collecting.items()},
        "tests": {
            key: {
                "reference": _pairs(test.reference),
                "reference_mean": test.reference_mean,
                "seen": _pairs(test.pool - test.reference),
                "samples": test.samples,
                "stakes": test.stakes.tolist(),
                "beginnings": test.beginnings.tolist(),
                "alarms": test.alarms,
            }
            for key, test in watch.tests.items()
        },
    }


def from_json(body: Mapping[str, Any]) -> Watch:
    """The inverse of `to_json`. A test of a stream that is no more is left out."""
    tests = {key: _test(key, one) for key, one in body["tests"].items() if _family(_parts(key)[0]) in STREAMS}
    return Watch(
        tests=tests,
        collecting={name: tuple(values) for name, values in body["collecting"].items()},
        samples=body["samples"],
        window_samples=body["window_samples"],
        window_ready=body["window_ready"],
    )


def _test(key: str, body: Mapping[str, Any]) -> Test:
    stream = STREAMS[_family(_parts(key)[0])]
    reference = _counts(body["reference"], stream.scale)
    return Test(
        scale=stream.scale,
        sides=stream.sides,
        reference=reference,
        reference_mean=body["reference_mean"],
        pool=reference + _counts(body["seen"], stream.scale),
        samples=body["samples"],
        stakes=np.array(body["stakes"]),
        beginnings=np.array(body["beginnings"]),
        alarms=body["alarms"],
    )


def _pairs(counts: Counts) -> list[int]:
    places = np.flatnonzero(counts)
    return np.stack([places, counts[places]], axis=1).ravel().tolist() if len(places) else []


def _counts(pairs: Sequence[int], scale: Scale) -> Counts:
    counts = np.zeros(scale.bins, np.int64)
    counts[list(pairs[::2])] = list(pairs[1::2])
    return counts
