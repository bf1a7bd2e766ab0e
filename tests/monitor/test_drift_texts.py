"""What texts are like, on real text."""

from __future__ import annotations

import random

import numpy as np
import pytest

from services.monitor.drift_texts import Texts, script, vector, words
from tests.monitor.texts import jokes, manual, questions


def fitted(texts: list[str], size: int) -> tuple[Texts, list[str]]:
    """A reference of so many of the texts, and the others."""
    shuffled = list(texts)
    random.Random(1).shuffle(shuffled)
    return Texts.fit(shuffled[:size]), shuffled[size:]


def auc(usual: list[float], new: list[float]) -> float:
    """The chance that a new text is further out than a usual one."""
    return float((np.array(new)[:, None] > np.array(usual)[None]).mean())


@pytest.mark.parametrize(
    ("usual", "new", "by_style", "by_content"),
    [
        (questions("trivia"), jokes(), 0.9, 0.7),
        (questions("trivia"), questions("psychology"), 0.9, 0.6),
        (manual("ec2")[:800], manual("quicksight")[:300], 0.7, 0.8),
    ],
    ids=["jokes", "psychology", "manuals"],
)
def test_new_texts_are_novel_in_style_or_in_content(
    usual: list[str], new: list[str], by_style: float, by_content: float
) -> None:
    reference, unseen = fitted(usual, len(usual) * 2 // 3)
    usual_vectors, new_vectors = list(map(vector, unseen)), list(map(vector, new))
    assert auc(*([reference.novelty(of) for of in some] for some in (usual_vectors, new_vectors))) > by_style
    assert auc(*([reference.content_novelty(of) for of in some] for some in (usual_vectors, new_vectors))) > by_content


def test_the_second_half_looks_as_new_as_what_was_never_seen() -> None:
    reference, unseen = fitted(manual("ec2")[:1200], 600)
    told = [reference.novelty(vector(text)) for text in unseen]
    assert auc(list(reference.novelties), told) == pytest.approx(0.5, abs=0.06)


def test_topics_are_found_and_the_same_each_time() -> None:
    texts = manual("ec2")[:200] + manual("quicksight")[:200]
    random.Random(2).shuffle(texts)
    reference, again = Texts.fit(texts), Texts.fit(texts)
    assert reference.topic_words == again.topic_words
    assert len(reference.topic_words) == len(set(reference.topic_words)) == 6
    assert sum(reference.topic_counts) == 200
    of_ec2 = {reference.topic(vector(text)) for text in manual("ec2")[300:330]}
    assert of_ec2 != {reference.topic(vector(text)) for text in manual("quicksight")[300:330]}


def test_new_words_are_told_with_their_shares() -> None:
    reference, _ = fitted(questions("trivia"), 200)
    told = reference.new_words(
        ["How do I get a refund?", "a refund for invoice 7", "Where is my invoice?", "refund me"]
    )
    assert [str(word) for word in told[:2]] == ["refund (75%, was 0%)", "invoice (50%, was 0%)"]
    assert reference.new_words([]) == []


def test_what_redaction_masks_is_no_feature() -> None:
    given, masked = vector("Call 555-1234 or mail me@example.com"), vector("Call [number] or mail [email]")
    assert given.dimensions.tolist() == masked.dimensions.tolist() != []
    assert vector("").empty
    assert vector("12345 !!!").empty
    assert words("Don't call [number]!") == ["don't", "call"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Hello, 3!", "LATIN"),
        ("Grüße", "LATIN"),
        ("Привет, Bob", "CYRILLIC"),
        ("你好", "CJK"),
        ("12 + 3", ""),
        ("", ""),
    ],
)
def test_the_script_of_most_letters(text: str, name: str) -> None:
    assert script(text) == name


@pytest.mark.parametrize("texts", [["a question"] * 23, ["12 34"] * 100])
def test_too_small_a_reference_is_refused(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="at least 24"):
        Texts.fit(texts)
