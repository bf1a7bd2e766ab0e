"""Rows of JSON Lines become tokens, with the tokens to learn marked.

What is learnt: all of a `text`; the assistant's turns of `messages` (rendered by the model's own chat template); the
completion after its prompt (`prompt-completion`); both answers after theirs (`preference`); the class of a text
(`classification`). Nothing is repaired: a row that is wrong ends the job with its number and field.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.trainer.datasets import AnyRow, LabelledTable, PreferenceTable, RowTable
from services.trainer.domain import CLASSIFICATION, PREFERENCE, TrainingFailedError

ROWS_PER_CALL = 256  # the tokenizer works on many texts at once
MAX_ROW_CHARACTERS = 1_000_000

Numbered = list[tuple[int, dict[str, Any]]]


def encode(lines: Iterable[bytes], format_name: str, tokenizer: Any, *, labels: Sequence[str] = ()) -> Sequence[AnyRow]:
    """Tokenise a whole dataset, some rows at a time. `labels`: the names of a classification's classes, in order.

    Raises TrainingFailedError("dataset").
    """
    if format_name == CLASSIFICATION:
        return _encode_labelled(lines, tokenizer, labels)
    if format_name == PREFERENCE:
        return _encode_preferences(lines, tokenizer)
    encoders: dict[str, Callable[[Numbered, Any, RowTable], None]] = {
        "text": _encode_texts,
        "messages": _encode_messages,
        "prompt-completion": _encode_completions,
    }
    if format_name not in encoders:
        known = ", ".join((*encoders, PREFERENCE, CLASSIFICATION))
        raise TrainingFailedError("dataset", f"format {format_name!r} is not one of {known}")
    if format_name == "messages":
        _require_template(tokenizer, "use the format text or prompt-completion")
    rows = RowTable()
    for numbered in _chunks(_documents(lines)):
        encoders[format_name](numbered, tokenizer, rows)
    return rows


def _documents(lines: Iterable[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TrainingFailedError("dataset", f"row {number} is not JSON: {error}") from error
        if not isinstance(document, dict):
            raise TrainingFailedError("dataset", f"row {number} is not a JSON object")
        yield number, document


def _chunks(items: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[Numbered]:
    chunk: Numbered = []
    for item in items:
        chunk.append(item)
        if len(chunk) == ROWS_PER_CALL:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _text(number: int, document: dict[str, Any], column: str) -> str:
    value = document.get(column)
    if not isinstance(value, str) or not value:
        raise TrainingFailedError("dataset", f"row {number}: {column} must be a text that is not empty")
    if len(value) > MAX_ROW_CHARACTERS:
        raise TrainingFailedError("dataset", f"row {number}: {column} has over {MAX_ROW_CHARACTERS} characters")
    return value


def _learnt(length: int, first: int) -> NDArray[np.bool_]:
    return np.arange(length) >= first


def _require_template(tokenizer: Any, instead: str) -> None:
    if not tokenizer.chat_template:
        raise TrainingFailedError("dataset", f"the model has no chat template; {instead}")


def _encode_texts(numbered: Numbered, tokenizer: Any, rows: RowTable) -> None:
    encoded = tokenizer([_text(number, document, "text") for number, document in numbered])["input_ids"]
    for (number, _), ids in zip(numbered, encoded, strict=True):
        rows.append(number, [*ids, tokenizer.eos_token_id], _learnt(len(ids) + 1, 0))


def _encode_completions(numbered: Numbered, tokenizer: Any, rows: RowTable) -> None:
    # Prompt and completion are tokenised apart, as at inference: no token may straddle the border.
    prompts = tokenizer([_text(number, document, "prompt") for number, document in numbered])["input_ids"]
    completions = _continued([_text(number, document, "completion") for number, document in numbered], tokenizer)
    for (number, _), prompt, completion in zip(numbered, prompts, completions, strict=True):
        tokens = [*prompt, *completion, tokenizer.eos_token_id]
        rows.append(number, tokens, _learnt(len(tokens), len(prompt)))


def _continued(texts: list[str], tokenizer: Any) -> list[list[int]]:
    """Tokens of texts that stand in the middle of others."""
    ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return ids


def _encode_messages(numbered: Numbered, tokenizer: Any, rows: RowTable) -> None:
    rendered = [_render(number, document, tokenizer) for number, document in numbered]
    encoded = tokenizer([text for text, _ in rendered], add_special_tokens=False, return_offsets_mapping=True)
    for (number, _document), (_, spans), ids, offsets in zip(
        numbered, rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        starts, ends = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
        learnt = np.zeros(len(ids), dtype=np.bool_)
        for begin, end in spans:
            learnt |= (starts >= begin) & (ends <= end) & (ends > starts)
        rows.append(number, ids, learnt)


def _encode_preferences(lines: Iterable[bytes], tokenizer: Any) -> PreferenceTable:
    """Prompt and answers are tokenised apart; what is learnt of each pair is its answers."""
    table = PreferenceTable()
    for numbered in _chunks(_documents(lines)):
        parts = [_answers(number, document, tokenizer) for number, document in numbered]
        prompts = [
            # A rendered prompt has its special tokens already.
            _continued([prompt], tokenizer)[0] if end is None else tokenizer(prompt)["input_ids"]
            for prompt, _, _, end in parts
        ]
        for answers, index in ((table.chosen, 1), (table.rejected, 2)):
            continued = _continued([str(part[index]) for part in parts], tokenizer)
            for (number, _), prompt, answer, part in zip(numbered, prompts, continued, parts, strict=True):
                tokens = [*prompt, *answer, *([] if part[3] is None else [part[3]])]
                answers.append(number, tokens, _learnt(len(tokens), len(prompt)))
    return table


def _answers(number: int, document: dict[str, Any], tokenizer: Any) -> tuple[str, str, str, int | None]:
    """(prompt, chosen, rejected, the token that ends both): texts as they are, messages by the chat template, which
    ends a turn by itself (None)."""
    if not isinstance(document.get("prompt"), list):
        prompt, chosen, rejected = (_text(number, document, column) for column in ("prompt", "chosen", "rejected"))
        return prompt, chosen, rejected, tokenizer.eos_token_id
    _require_template(tokenizer, "write prompt, chosen and rejected as texts")
    turns = {column: _turns(number, document, column) for column in ("prompt", "chosen", "rejected")}
    prompt = _templated(number, turns["prompt"], tokenizer, prompt=True)
    texts = []
    for column in ("chosen", "rejected"):
        whole = _templated(number, turns["prompt"] + turns[column], tokenizer, prompt=False)
        if not whole.startswith(prompt) or whole == prompt:
            raise TrainingFailedError(
                "dataset", f"row {number}: {column}: the chat template does not tell it as an answer to the prompt"
            )
        texts.append(whole[len(prompt) :])
    return prompt, texts[0], texts[1], None


def _turns(number: int, document: dict[str, Any], column: str) -> list[Any]:
    turns = document.get(column)
    if not isinstance(turns, list) or not turns:
        raise TrainingFailedError("dataset", f"row {number}: {column} must be a list that is not empty")
    for index, turn in enumerate(turns):
        if not isinstance(turn, dict) or not isinstance(turn.get("content"), str):
            raise TrainingFailedError("dataset", f"row {number}: {column}[{index}].content must be a text")
    return turns


def _encode_labelled(lines: Iterable[bytes], tokenizer: Any, labels: Sequence[str]) -> LabelledTable:
    table, known = LabelledTable(), {name: index for index, name in enumerate(labels)}
    for numbered in _chunks(_documents(lines)):
        encoded = tokenizer([_text(number, document, "text") for number, document in numbered])["input_ids"]
        for (number, document), ids in zip(numbered, encoded, strict=True):
            label = document.get("label")
            if isinstance(label, bool) or not isinstance(label, str | int) or str(label) not in known:
                raise TrainingFailedError(
                    "dataset", f"row {number}: label {label!r:.80} is none of the dataset's classes"
                )
            if not ids:
                raise TrainingFailedError("dataset", f"row {number}: text has no tokens")
            table.append(number, ids, known[str(label)])
    return table


def _templated(number: int, turns: list[Any], tokenizer: Any, *, prompt: bool) -> str:
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
    except Exception as error:  # a template raises what it likes
        raise TrainingFailedError("dataset", f"row {number}: the chat template refused it: {error}") from error
    return text


def _render(number: int, document: dict[str, Any], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    """The conversation as the model reads it, and the spans of characters that the assistant said, with end marks."""
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise TrainingFailedError("dataset", f"row {number}: messages must be a list that is not empty")

    whole, spans = _templated(number, messages, tokenizer, prompt=False), []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise TrainingFailedError("dataset", f"row {number}: messages[{index}].content must be a text")
        if message.get("role") != "assistant":
            continue
        before = _templated(number, messages[:index], tokenizer, prompt=True) if index else ""
        through = _templated(number, messages[: index + 1], tokenizer, prompt=False)
        # Some templates tell earlier turns anew (without their reasoning, say). Such a turn is not learnt: its text is
        # not what the model would have said then.
        if whole.startswith(through) and through.startswith(before):
            spans.append((len(before), len(through)))
    return whole, spans
