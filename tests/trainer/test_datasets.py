"""Rows become tokens, and exactly what the model has to say is learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.trainer import datasets, encoding
from services.trainer.datasets import IGNORED, Row
from services.trainer.domain import TrainingFailedError


@pytest.fixture(scope="module")
def tokenizer(models_dir: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(models_dir / "tiny", local_files_only=True)


def encode(format_name: str, tokenizer: Any, *documents: object, labels: tuple[str, ...] = ()) -> Any:
    lines = [json.dumps(it).encode() + b"\n" for it in documents]
    return encoding.encode(lines, format_name, tokenizer, labels=labels)


def learnt(row: Row, tokenizer: Any) -> str:
    return str(tokenizer.decode(row.tokens[row.learnt]))


def test_of_a_conversation_the_assistants_turns_are_learnt(tokenizer: Any) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is my order?"},
        {"role": "assistant", "content": "On its way."},
        {"role": "user", "content": "Thanks, é ü 漢字!"},
        {"role": "assistant", "content": "Goodbye!"},
    ]
    (row,) = encode("messages", tokenizer, {"messages": turns})
    assert tokenizer.decode(row.tokens) == tokenizer.apply_chat_template(turns, tokenize=False)
    assert learnt(row, tokenizer) == "On its way.<|im_end|>\nGoodbye!<|im_end|>\n"
    labels = row.labels()
    assert labels.dtype == np.int64
    assert (labels[~row.learnt] == IGNORED).all()
    assert row.targets == int(row.learnt.sum())


def test_of_a_completion_the_prompt_is_not_learnt(tokenizer: Any) -> None:
    (row,) = encode("prompt-completion", tokenizer, {"prompt": "2 + 2 =", "completion": " 4"})
    assert tokenizer.decode(row.tokens) == "2 + 2 = 4<|im_end|>"
    assert learnt(row, tokenizer) == " 4<|im_end|>"


def test_of_a_text_all_is_learnt(tokenizer: Any) -> None:
    first, second = encode("text", tokenizer, {"text": "Hello there"}, {"text": "Goodbye"})
    assert learnt(first, tokenizer) == "Hello there<|im_end|>"
    assert first.targets == len(first.tokens) - 1
    assert (first.number, second.number) == (1, 2)


def test_an_earlier_turn_that_the_template_tells_anew_is_not_learnt(tokenizer: Any, monkeypatch: Any) -> None:
    forgetful = (
        "{% for m in messages %}{{ m['role'] + ':' + (m['content'] if loop.last else m['content'][:2]) + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    monkeypatch.setattr(tokenizer, "chat_template", forgetful)
    turns = [
        {"role": "assistant", "content": "long ago"},
        {"role": "user", "content": "hm"},
        {"role": "assistant", "content": "now"},
    ]
    (row,) = encode("messages", tokenizer, {"messages": turns})
    assert learnt(row, tokenizer) == "now\n"


def test_cut_rows_are_counted_and_those_with_nothing_to_learn_left_out(tokenizer: Any) -> None:
    rows = encode(
        "prompt-completion",
        tokenizer,
        {"prompt": "Hello", "completion": " you"},
        {"prompt": "Hello", "completion": " you" * 40},
        {"prompt": "Hello there " * 40, "completion": " you"},
    )
    prepared = datasets.cut(rows, 16)
    assert [row.number for row in prepared.rows] == [1, 2]
    report = prepared.report
    assert (report.rows, report.truncated_rows, report.rows_without_target) == (3, 2, 1)
    assert report.tokens == sum(len(row.tokens) for row in prepared.rows)
    assert report.targets == sum(row.targets for row in prepared.rows)
    assert report.longest == datasets.longest(rows) > 40
    assert max(len(row.tokens) for row in prepared.rows) == 16


@pytest.mark.parametrize(
    ("format_name", "lines", "why"),
    [
        ("text", [b'{"text": "a"}', b"", b"{broken"], "row 3 is not JSON"),
        ("text", [b'["a"]'], "row 1 is not a JSON object"),
        ("text", [b'{"text": ""}'], "row 1: text must be"),
        ("text", [b'{"txt": "a"}'], "row 1: text must be"),
        ("prompt-completion", [b'{"prompt": "a"}'], "row 1: completion must be"),
        ("messages", [b'{"messages": []}'], "row 1: messages must be"),
        ("messages", [b'{"messages": [{"role": "user"}]}'], "row 1: "),
        ("messages", [b'{"messages": [{"role": "user", "content": 5}]}'], "row 1: "),
        ("parquet", [], "format 'parquet'"),
        ("classification", [b'{"text": "a", "label": "eggs"}'], "row 1: label 'eggs' is none"),
        ("classification", [b'{"text": "a", "label": true}'], "row 1: label True is none"),
        ("classification", [b'{"text": "a"}'], "row 1: label None is none"),
        ("preference", [b'{"prompt": "a", "chosen": "b"}'], "row 1: rejected must be"),
        (
            "preference",
            [b'{"prompt": [{"content": "a"}], "chosen": "b"}'],
            "row 1: chosen must be a list",
        ),
    ],
)
def test_a_wrong_row_is_named(format_name: str, lines: list[bytes], why: str, tokenizer: Any) -> None:
    with pytest.raises(TrainingFailedError, match=why) as caught:
        encoding.encode(lines, format_name, tokenizer, labels=("ham", "spam"))
    assert caught.value.reason == "dataset"


def test_conversations_need_a_chat_template(tokenizer: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", None)
    with pytest.raises(TrainingFailedError, match="no chat template"):
        encode("messages", tokenizer, {"messages": [{"role": "user", "content": "a"}]})


def test_of_a_preference_both_answers_are_learnt(tokenizer: Any) -> None:
    (row,) = encode("preference", tokenizer, {"prompt": "2 + 2 =", "chosen": " 4", "rejected": " five"})
    for answer, text in ((row.chosen, " 4"), (row.rejected, " five")):
        assert tokenizer.decode(answer.tokens) == f"2 + 2 ={text}<|im_end|>"
        assert learnt(answer, tokenizer) == f"{text}<|im_end|>"


def test_a_preference_of_messages_is_told_by_the_chat_template(tokenizer: Any) -> None:
    asked = [{"role": "user", "content": "2 + 2?"}]
    answers = [[{"role": "assistant", "content": text}] for text in ("4", "five")]
    document = {"prompt": asked, "chosen": answers[0], "rejected": answers[1]}
    (row,) = encode("preference", tokenizer, document)
    for part, answer, text in ((row.chosen, answers[0], "4"), (row.rejected, answers[1], "five")):
        assert tokenizer.decode(part.tokens) == tokenizer.apply_chat_template(asked + answer, tokenize=False)
        assert learnt(part, tokenizer) == f"{text}<|im_end|>\n"


def test_of_a_classification_the_class_is_named(tokenizer: Any) -> None:
    documents = [{"text": "free money", "label": "spam"}, {"text": "see you", "label": "ham"}]
    rows = encode("classification", tokenizer, *documents, labels=("ham", "spam"))
    assert [(tokenizer.decode(row.tokens), row.label, row.number) for row in rows] == [
        ("free money", 1, 1),
        ("see you", 0, 2),
    ]
    (numbered,) = encode("classification", tokenizer, {"text": "a", "label": 10}, labels=("2", "10"))
    assert numbered.label == 1


def test_rows_that_repeat_an_earlier_one_are_counted(tokenizer: Any) -> None:
    rows = encode("text", tokenizer, *({"text": text} for text in ("a", "b", "a", "a", "c")))
    assert datasets.cut(rows, 16).report.duplicates == 2
