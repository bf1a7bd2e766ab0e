"""All streams of one version together, on real text: which alarm, on what, and that none does while nothing changes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from services.monitor import drift_explained
from services.monitor.drift_explained import member_name, new_words, sentence
from services.monitor.drift_streams import (
    STREAMS,
    Reference,
    References,
    Sample,
    Window,
    is_refusal,
    labelled_values,
    plain_values,
)
from services.monitor.drift_texts import Texts, vector
from services.monitor.drift_watch import Alarm, Rules, Step, Watch, from_json, to_json
from tests.monitor.texts import manual, questions

RULES = Rules(window_samples=100, window_labels=30)


class Version:
    """One version on one endpoint, as the handlers keep it. Each step goes through JSON, as a database would."""

    def __init__(self, training: list[str] | None = None) -> None:
        self.references = References(training=Texts.fit(training) if training else None)
        self.watch = Watch()
        if self.references.training:
            self.watch = self.watch.against_training(self.references.training)
        self.seen: list[Sample] = []
        self.window_from = 0

    def take(self, samples: list[Sample]) -> list[Alarm]:
        told: list[Alarm] = []
        for sample in samples:
            self.seen.append(sample)
            collected = self.watch.window_samples
            number = float(len(self.seen))
            step = self._kept(self.watch.observe(sample, number, self.references, RULES))
            if step.watch.window_samples < collected:
                self.window_from = len(self.seen)
            if step.watch.window_full(RULES):
                window = self.seen[self.window_from :]
                outputs = [one.output_text for one in window if not one.error]
                self.references = replace(
                    self.references, window=Window.fit([one.input_text for one in window], outputs)
                )
                assert self.references.window is not None
                self.watch = step.watch.against_window(self.references.window)
            told += step.alarms
        return told

    def label(self, values: dict[str, float], count: int) -> list[Alarm]:
        told: list[Alarm] = []
        for number in range(count):
            step = self._kept(self.watch.observe_label(values, f"{len(self.seen)}/{number}", 0.0, RULES))
            told += step.alarms
        return told

    def _kept(self, step: Step) -> Step:
        self.watch = from_json(json.loads(json.dumps(to_json(step.watch))))
        assert to_json(self.watch) == to_json(step.watch)
        return step


def answered(dice: random.Random, number: int, **changes: object) -> Sample:
    asked = dice.choice(_QUESTIONS)
    sample = Sample(
        inference_id=f"inf_{number}_{dice.random()}",
        input_text=asked,
        output_text=dice.choice(_ANSWERS),
        input_tokens=20 + len(asked) // 4,
        output_tokens=dice.randint(20, 60),
        mean_logprob=-0.5 - dice.random(),
    )
    return replace(sample, **changes)  # type: ignore[arg-type]


_QUESTIONS = questions("trivia")
_ANSWERS = manual("glue")[:400]


@pytest.fixture(scope="module")
def healthy() -> Version:
    """A version whose window is full: 100 samples, and none has alarmed since."""
    version, dice = Version(), random.Random(5)
    assert version.take([answered(dice, number) for number in range(150)]) == []
    assert version.watch.window_ready
    return version


def named(alarm: Alarm, version: Version) -> str:
    references = version.references
    return member_name(alarm.stream.name, alarm.member, references.inputs(alarm.reference), references.window)


def copied(version: Version) -> Version:
    fresh = Version()
    fresh.watch, fresh.references, fresh.seen = version.watch, version.references, list(version.seen)
    return fresh


SHIFTS: dict[str, dict[str, object]] = {
    "input-length": {"input_text": " ".join(_QUESTIONS[:6])},
    "input-tokens": {"input_tokens": 900},
    "input-script": {"input_text": "Как мне сбросить пароль на сайте?"},
    "input-empty": {"input_text": "  "},
    "input-undecodable": {"input_text": "What is the \ufffd\ufffd of France?"},
    "input-cut": {"input_text": "What is it? " * 200},
    "input-vocabulary": {"input_text": "i feel so very sad today, will you talk to me please"},
    "input-content": {"input_text": "kubectl rollout restart deployment nginx namespace staging"},
    "output-length": {"output_tokens": 3},
    "output-entropy": {"mean_logprob": -6.0},
    "output-refusal": {"output_text": "I'm sorry, but I can\u2019t help with that."},
    "output-empty": {"output_text": ""},
    "output-error": {"error": "engine_error", "output_text": "", "output_tokens": 0},
    "output-vocabulary": {"output_text": "lol ok yeah whatever man haha nope"},
    "output-content": {"output_text": "Zebras graze peacefully near shallow rivers."},
}


@pytest.mark.parametrize("name", list(SHIFTS))
def test_each_stream_sees_what_it_is_for(healthy: Version, name: str) -> None:
    """Half of the requests change in one way."""
    version, dice = copied(healthy), random.Random(6)
    shifted = [answered(dice, number, **(SHIFTS[name] if number % 2 else {})) for number in range(1000, 1150)]
    alarms = {alarm.stream.name: alarm for alarm in version.take(shifted)}
    assert name in alarms, f"told {sorted(alarms)}"
    alarm = alarms[name]
    assert alarm.reference is Reference.WINDOW
    assert alarm.test.capital >= alarm.threshold == pytest.approx(1 / alarm.alpha)
    # The window's text streams are learnt from one half and ranked among the other.
    assert alarm.test.reference_size in (50, 100)
    words = new_words(alarm, [(one.input_text, one.output_text) for one in shifted], version.references)
    told = sentence(alarm, named(alarm, version), words)
    assert alarm.stream.unit in told
    assert "healthy window" in told
    if name == "input-content":
        assert any(word.startswith("kubectl (") for word in words)
        assert "New words: " in told


def test_requests_about_one_known_topic_only_are_drift() -> None:
    dice = random.Random(7)
    texts = dice.sample(manual("ec2"), 350) + dice.sample(manual("quicksight"), 350)
    dice.shuffle(texts)
    version, unseen = Version(texts[:600]), texts[600:]
    assert version.take([Sample(f"inf_{number}", text) for number, text in enumerate(unseen[:60])]) == []
    fitted = version.references.training
    assert fitted is not None
    topic = fitted.topic_counts.index(min(fitted.topic_counts))
    of_one = [text for text in texts if fitted.topic(vector(text)) == topic]
    told = version.take([Sample(f"one_{number}", dice.choice(of_one)) for number in range(80)])
    alarm = next(alarm for alarm in told if alarm.stream.name == "input-topic")
    assert alarm.reference is Reference.TRAINING
    assert named(alarm, version) == fitted.topic_words[topic]
    assert fitted.topic_words[topic] in sentence(alarm, fitted.topic_words[topic], [])


def test_a_classifiers_answers_are_counted_by_class() -> None:
    def classified(dice: random.Random, shares: dict[str, float]) -> Iterator[Sample]:
        while True:
            label = dice.choices(list(shares), list(shares.values()))[0]
            yield answered(dice, 0, output_text=label, output_tokens=1)

    version, dice = Version(), random.Random(8)
    usual = classified(dice, {"refund": 0.3, "delivery": 0.5, "other": 0.2})
    assert version.take([next(usual) for _ in range(200)]) == []
    window = version.references.window
    assert window is not None
    assert set(window.classes) == {"refund", "delivery", "other", "(others)"}
    shifted = classified(dice, {"refund": 0.8, "delivery": 0.1, "other": 0.1})
    told = version.take([next(shifted) for _ in range(160)])
    alarm = next(alarm for alarm in told if alarm.stream.name == "output-class")
    assert named(alarm, version) == "refund"
    assert alarm.test.recent_mean > 0.6 > 0.4 > alarm.test.reference_mean
    assert sentence(alarm, "refund", []).startswith("The answer 'refund' became frequent: 0.")


def test_users_who_rate_answers_lower_are_heard() -> None:
    version = Version()
    assert version.label({"quality-score": 0.0}, 60) == []
    told = version.label({"quality-score": 1.0}, 30)
    assert [alarm.stream.name for alarm in told[:1]] == ["quality-score"]
    assert told[0].test.reference_size == RULES.window_labels


@pytest.mark.parametrize(
    ("score", "label", "correction", "output", "values"),
    [
        (1.0, "up", "", None, {"quality-score": 0.0}),
        (0.25, "", "", "said", {"quality-score": 0.75}),
        (float("nan"), "", "", "said", {}),
        (None, "spam", "", " Spam ", {"quality-loss": 0.0}),
        (None, "spam", "", "ham", {"quality-loss": 1.0}),
        (None, "spam", "", None, {}),
        (None, "", "the cat sat", "the cat ran", {"quality-loss": pytest.approx(1 / 3)}),
        (0.0, "down", "Paris", "Rome", {"quality-score": 1.0, "quality-loss": 1.0}),
    ],
)
def test_what_users_say_becomes_numbers(
    score: float | None, label: str, correction: str, output: str | None, values: dict[str, float]
) -> None:
    assert labelled_values(score, label, correction, output) == values


@pytest.mark.parametrize(
    ("answer", "refuses"),
    [
        ("I'm sorry, but I can't assist with that request.", True),
        ("As an AI language model, I have no opinions.", True),
        ("I cannot provide medical advice.", True),
        ("You can reset it under Settings.", False),
        ("He said sorry and left.", False),
        ("", False),
    ],
)
def test_refusals_are_known_by_their_beginning(answer: str, refuses: bool) -> None:
    assert is_refusal(answer) is refuses


def test_the_shares_of_alpha_sum_to_one() -> None:
    assert sum(share for stream in STREAMS.values() for share in stream.shares.values()) == pytest.approx(1)


def test_every_stream_is_counted_and_explained() -> None:
    assert set(drift_explained._WHAT) == set(STREAMS)
    assert set(plain_values(Sample("inf", "a question", "an answer", 3, 3, -1.0))) <= set(STREAMS)


def test_a_window_that_drifts_from_the_training_data_begins_anew() -> None:
    version, dice = Version(_QUESTIONS[:180]), random.Random(9)
    assert (
        version.take([answered(dice, number, input_text=text) for number, text in enumerate(_QUESTIONS[180:220])]) == []
    )
    assert version.watch.window_samples == 40
    told = version.take([answered(dice, 100 + number, input_text=manual("rds")[number]) for number in range(40)])
    assert {alarm.reference for alarm in told} == {Reference.TRAINING}
    assert version.watch.window_samples < 40


def test_a_window_of_failures_is_no_reference() -> None:
    version, dice = Version(), random.Random(10)
    rules = replace(RULES, window_samples=10_000)
    watch = version.watch
    for number in range(100):
        sample = answered(dice, number, error="engine_error" if number % 4 else "")
        watch = watch.observe(sample, 0.0, version.references, rules).watch
    assert not watch.healthy()
    assert watch.window_anew().window_samples == 0
    assert watch.window_anew().collecting == {}
