"""Rows of JSON Lines as tokens, with the tokens to learn marked: `text`, `messages`, `prompt-completion`.

What is learnt: all of a text; the assistant's turns of a conversation (rendered by the model's own chat template); the
completion after its prompt. Nothing is repaired: a row that is wrong ends the job with its number and field.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.trainer.domain import TrainingFailedError

IGNORED = -100  # the label that torch's cross entropy leaves out
ROWS_PER_CALL = 256  # the tokenizer works on many texts at once
MAX_ROW_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """`number`: its line in the file, from 1. `tokens` int32 (n,); `learnt` bool (n,): which of them are targets.

    A packed row holds several of the dataset's: `positions` int32 (n,) begin again at each, `others` are their numbers.
    """

    number: int
    tokens: NDArray[np.int32]
    learnt: NDArray[np.bool_]
    positions: NDArray[np.int32] | None = None
    others: tuple[int, ...] = ()

    @property
    def numbers(self) -> tuple[int, ...]:
        return (self.number, *self.others)

    @property
    def targets(self) -> int:
        """Tokens that are predicted: the first has nothing before it."""
        return int(self.learnt[1:].sum())

    def labels(self) -> NDArray[np.int64]:
        """int64 (n,): the token where it is learnt, IGNORED elsewhere."""
        return np.where(self.learnt, self.tokens, IGNORED).astype(np.int64)


@dataclass(frozen=True, slots=True)
class PreferenceRow:
    """Two answers to one prompt; what is learnt of each is the answer."""

    number: int
    chosen: Row
    rejected: Row


@dataclass(frozen=True, slots=True)
class LabelledRow:
    """A text and the number of its class."""

    number: int
    tokens: NDArray[np.int32]
    label: int


AnyRow = Row | PreferenceRow | LabelledRow


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of a dataset at one length, and what the cut cost."""

    rows: list[AnyRow]
    truncated_rows: int
    rows_without_target: int  # left out: the cut took all that they teach


def encode(lines: Iterable[bytes], format_name: str, tokenizer: Any, *, labels: Sequence[str] = ()) -> list[AnyRow]:
    """Tokenise a whole dataset. Raises TrainingFailedError("dataset")."""
    encoders = {"text": _encode_texts, "messages": _encode_messages, "prompt-completion": _encode_completions}
    if format_name not in encoders:
        raise TrainingFailedError("dataset", f"format {format_name!r} is not one of {', '.join(encoders)}")
    if format_name == "messages" and not tokenizer.chat_template:
        raise TrainingFailedError("dataset", "the model has no chat template; use the format text or prompt-completion")
    rows: list[AnyRow] = []
    for numbered in _chunks(_documents(lines)):
        rows += encoders[format_name](numbered, tokenizer)
    return rows


def longest(rows: Iterable[AnyRow]) -> int:
    """Tokens of the longest row; 0 for none."""
    return max((len(part.tokens) for row in rows for part in _parts(row)), default=0)


def cut(rows: Iterable[AnyRow], sequence_length: int, *, packing: bool = False) -> Prepared:
    """Keep the first `sequence_length` tokens of each row; count what that changed."""
    kept: list[AnyRow] = []
    truncated = without_target = 0
    for row in rows:
        shorter = _shortened(row, sequence_length)
        truncated += shorter is not row
        if _teaches(shorter):
            kept.append(shorter)
        else:
            without_target += 1
    return Prepared(kept, truncated, without_target)


def _parts(row: AnyRow) -> tuple[Row | LabelledRow, ...]:
    return (row.chosen, row.rejected) if isinstance(row, PreferenceRow) else (row,)


def _teaches(row: AnyRow) -> bool:
    return isinstance(row, LabelledRow) or all(part.targets for part in _parts(row) if isinstance(part, Row))


def _shortened(row: AnyRow, length: int) -> AnyRow:
    if all(len(part.tokens) <= length for part in _parts(row)):
        return row
    if isinstance(row, PreferenceRow):
        chosen, rejected = (Row(it.number, it.tokens[:length], it.learnt[:length]) for it in (row.chosen, row.rejected))
        return PreferenceRow(row.number, chosen, rejected)
    if isinstance(row, LabelledRow):
        return LabelledRow(row.number, row.tokens[:length], row.label)
    return Row(row.number, row.tokens[:length], row.learnt[:length])


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


def _chunks(items: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    chunk: list[tuple[int, dict[str, Any]]] = []
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


def _row(number: int, tokens: list[int], first_learnt: int) -> Row:
    learnt = np.zeros(len(tokens), dtype=np.bool_)
    learnt[first_learnt:] = True
    return Row(number, np.asarray(tokens, dtype=np.int32), learnt)


def _encode_texts(numbered: list[tuple[int, dict[str, Any]]], tokenizer: Any) -> list[Row]:
    texts = [_text(number, document, "text") for number, document in numbered]
    encoded = tokenizer(texts)["input_ids"]
    return [
        _row(number, [*ids, tokenizer.eos_token_id], 0)
        for (number, _document), ids in zip(numbered, encoded, strict=True)
    ]


def _encode_completions(numbered: list[tuple[int, dict[str, Any]]], tokenizer: Any) -> list[Row]:
    # Prompt and completion are tokenised apart, as at inference: no token may straddle the border.
    prompts = tokenizer([_text(number, document, "prompt") for number, document in numbered])["input_ids"]
    completions = tokenizer(
        [_text(number, document, "completion") for number, document in numbered], add_special_tokens=False
    )["input_ids"]
    return [
        _row(number, [*prompt, *completion, tokenizer.eos_token_id], len(prompt))
        for (number, _document), prompt, completion in zip(numbered, prompts, completions, strict=True)
    ]


def _encode_messages(numbered: list[tuple[int, dict[str, Any]]], tokenizer: Any) -> list[Row]:
    rendered = [_render(number, document, tokenizer) for number, document in numbered]
    encoded = tokenizer([text for text, _ in rendered], add_special_tokens=False, return_offsets_mapping=True)
    rows = []
    for (number, _document), (_, spans), ids, offsets in zip(
        numbered, rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True
    ):
        starts, ends = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
        learnt = np.zeros(len(ids), dtype=np.bool_)
        for begin, end in spans:
            learnt |= (starts >= begin) & (ends <= end) & (ends > starts)
        rows.append(Row(number, np.asarray(ids, dtype=np.int32), learnt))
    return rows


def _render(number: int, document: dict[str, Any], tokenizer: Any) -> tuple[str, list[tuple[int, int]]]:
    """The conversation as the model reads it, and the spans of characters that the assistant said, with end marks."""
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise TrainingFailedError("dataset", f"row {number}: messages must be a list that is not empty")

    def render(turns: list[Any], *, prompt: bool) -> str:
        try:
            text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
        except Exception as error:  # a template raises what it likes
            raise TrainingFailedError("dataset", f"row {number}: the chat template refused it: {error}") from error
        return text

    whole, spans = render(messages, prompt=False), []
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("content"), str):
            raise TrainingFailedError("dataset", f"row {number}: messages[{index}].content must be a text")
        if message.get("role") != "assistant":
            continue
        before = render(messages[:index], prompt=True) if index else ""
        through = render(messages[: index + 1], prompt=False)
        # Some templates tell earlier turns anew (without their reasoning, say). Such a turn is not learnt: its text is
        # not what the model would have said then.
        if whole.startswith(through) and through.startswith(before):
            spans.append((len(before), len(through)))
    return whole, spans
