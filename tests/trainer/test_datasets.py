"""Rows become tokens, and exactly what the model has to say is learnt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.trainer import datasets
from services.trainer.datasets import IGNORED, Row
from services.trainer.domain import TrainingFailedError


@pytest.fixture(scope="module")
def tokenizer(models_dir: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(models_dir / "tiny", local_files_only=True)


def encode(format_name: str, tokenizer: Any, *documents: object) -> list[Row]:
    return datasets.encode([json.dumps(it).encode() + b"\n" for it in documents], format_name, tokenizer)


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
    assert (prepared.truncated_rows, prepared.rows_without_target) == (2, 1)
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
    ],
)
def test_a_wrong_row_is_named(format_name: str, lines: list[bytes], why: str, tokenizer: Any) -> None:
    with pytest.raises(TrainingFailedError, match=why) as caught:
        datasets.encode(lines, format_name, tokenizer)
    assert caught.value.reason == "dataset"


def test_conversations_need_a_chat_template(tokenizer: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(tokenizer, "chat_template", None)
    with pytest.raises(TrainingFailedError, match="no chat template"):
        encode("messages", tokenizer, {"messages": [{"role": "user", "content": "a"}]})
