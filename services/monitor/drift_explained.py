"""What an alarm says to a person: what changed, from what to what, since when, and which words are new. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from services.monitor.drift_streams import Reference, References, Window
from services.monitor.drift_texts import Texts
from services.monitor.drift_watch import Alarm

_WHAT = {
    "input-vocabulary": "Requests use other words and turns of phrase",
    "input-content": "Requests are about other subjects",
    "input-topic": "Requests about {member} became frequent",
    "input-length": "Requests became {direction}",
    "input-tokens": "Conversations became {direction}",
    "input-script": "Requests are written in another script",
    "input-empty": "More requests are empty",
    "input-undecodable": "More requests hold characters that are no text",
    "input-cut": "More requests are longer than what is looked at",
    "output-vocabulary": "Answers use other words and turns of phrase",
    "output-content": "Answers are about other subjects",
    "output-class": "The answer {member} became frequent",
    "output-length": "Answers became {direction}",
    "output-entropy": "The model became {direction} of its answers",
    "output-refusal": "More answers are refusals",
    "output-empty": "More answers are empty",
    "output-error": "More requests fail",
    "quality-score": "Users rate answers lower",
    "quality-loss": "Answers differ more from what users say is right",
}
_ABOUT_WORDS = ("vocabulary", "content", "topic", "script")
_DIRECTIONS = {"output-entropy": ("surer", "less sure")}


def member_name(stream: str, member: str, inputs: Texts | None, window: Window | None) -> str:
    """What the topic or class of this number is called; "" if the stream has no members.

    `inputs`: the requests of the test's reference, whose topics are counted.
    """
    if not member:
        return ""
    if stream == "output-class":
        return window.classes[int(member)] if window else ""
    return inputs.topic_words[int(member)] if inputs else ""


def new_words(alarm: Alarm, recent: Sequence[tuple[str, str | None]], references: References) -> list[str]:
    """Words of the recent texts that the reference's hardly have; for streams that are about words."""
    side, _, what = alarm.stream.name.partition("-")
    if what not in _ABOUT_WORDS:
        return []
    if side == "input":
        fitted, texts = references.inputs(alarm.reference), [asked for asked, _ in recent]
    elif references.window:
        fitted, texts = references.window.outputs, [said for _, said in recent if said]
    else:
        return []
    return [str(word) for word in fitted.new_words(texts)] if fitted else []


def sentence(alarm: Alarm, member: str, words: Sequence[str]) -> str:
    """One or two sentences."""
    test, stream = alarm.test, alarm.stream
    shorter, longer = _DIRECTIONS.get(stream.name, ("shorter", "longer"))
    direction = longer if test.recent_mean >= test.reference_mean else shorter
    what = _WHAT[stream.name].format(member=f"'{member}'", direction=direction)
    against = "training data" if alarm.reference is Reference.TRAINING else "healthy window"
    told = (
        f"{what}: {_shown(test.recent_mean)} in the last {test.recent_samples} of {test.samples} samples, "
        f"{_shown(test.reference_mean)} in the {against} ({stream.unit})."
    )
    return f"{told} New words: {', '.join(words)}." if words else told


def _shown(value: float) -> str:
    return f"{value:.3g}"
