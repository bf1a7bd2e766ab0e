"""What a row may look like: each format's columns, its check, and what it is told as. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.gateway.datareport import Counted

MAX_MESSAGES = 1_000  # of one conversation
MAX_LABEL_CHARACTERS = 200
ROLES = ("system", "user", "assistant")
SHAREGPT_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}

Row = dict[str, Any]


class RejectedError(Exception):
    """The upload is no dataset. `row` counts from 1; 0 means the file as a whole."""

    def __init__(self, row: int, column: str, reason: str) -> None:
        # Both may quote the file, and are stored and told: neither can be done with a NUL or half of a surrogate pair.
        column, reason = _sayable(column), _sayable(reason)
        super().__init__(f"row {row}, column {column or '-'}: {reason}")
        self.row = row
        self.column = column
        self.reason = reason


def _sayable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")


@dataclass(frozen=True, slots=True)
class Form:
    """`name`: as the contract calls it. `check`: the row as the trainer reads it, and what it counts."""

    name: str
    columns: frozenset[str]
    check: Callable[[Row, int], tuple[Row, Counted]]
    converts: bool = False


def form_of(row: Row, number: int) -> str:
    """The form that the first row's columns name. Raises RejectedError."""
    found = [name for name, form in FORMS.items() if form.columns <= row.keys()]
    if "classification" in found:
        found.remove("text")
    if len(found) == 1:
        return found[0]
    if found:
        raise RejectedError(number, "", f"the columns fit {' and '.join(found)}: keep one of them")
    columns = ", ".join(sorted(map(str, row))[:5]) or "none"
    known = "; ".join(" and ".join(f"`{column}`" for column in sorted(form.columns)) for form in FORMS.values())
    raise RejectedError(number, "", f"the columns are {columns}: name them as one of these formats does: {known}")


def _conversation(messages: Any, number: int, column: str) -> tuple[int, int]:
    """(characters, those of the assistant)."""
    if not isinstance(messages, list) or not messages:
        raise RejectedError(number, column, f"must be a list with at least one message, not {kind_of(messages)}")
    if len(messages) > MAX_MESSAGES:
        raise RejectedError(number, column, f"{len(messages)} messages; the limit is {MAX_MESSAGES}")
    characters = learnt = 0
    for index, message in enumerate(messages):
        where = f"{column}[{index}]"
        if not isinstance(message, dict):
            raise RejectedError(number, where, f"must be an object with role and content, not {kind_of(message)}")
        role = message.get("role")
        if role not in ROLES:
            raise RejectedError(number, f"{where}.role", f"must be one of {', '.join(ROLES)}, not {_short(role)}")
        if role == "system" and index:
            raise RejectedError(number, f"{where}.role", "a system message stands first")
        length = _text(message.get("content"), number, f"{where}.content")
        characters += length
        learnt += length if role == "assistant" else 0
    return characters, learnt


def _messages(row: Row, number: int) -> tuple[Row, Counted]:
    messages = _column(row, number, "messages")
    characters, learnt = _conversation(messages, number, "messages")
    if not learnt:
        raise RejectedError(number, "messages", "no message of the assistant: there is nothing to learn from")
    return row, Counted(characters, learnt, messages)


def _texts(row: Row, number: int) -> tuple[Row, Counted]:
    length = _text(_column(row, number, "text"), number, "text")
    return row, Counted(length, length, row["text"])


def _completions(row: Row, number: int) -> tuple[Row, Counted]:
    prompt, completion = (_text(_column(row, number, column), number, column) for column in ("prompt", "completion"))
    return row, Counted(prompt + completion, completion, [row["prompt"], row["completion"]])


def _alpaca(row: Row, number: int) -> tuple[Row, Counted]:
    """https://github.com/tatsu-lab/stanford_alpaca: `input` may be empty."""
    for column in ("instruction", "output"):
        _text(_column(row, number, column), number, column)
    told = row["instruction"]
    if row.get("input"):
        _text(row["input"], number, "input")
        told = f"{told}\n\n{row['input']}"
    turns = [{"role": "user", "content": told}, {"role": "assistant", "content": row["output"]}]
    return _messages({"messages": turns}, number)


def _sharegpt(row: Row, number: int) -> tuple[Row, Counted]:
    said = _column(row, number, "conversations")
    if not isinstance(said, list) or not said or not all(isinstance(turn, dict) for turn in said):
        raise RejectedError(number, "conversations", "must be a list of objects with from and value, with one at least")
    for index, turn in enumerate(said):
        if not isinstance(turn.get("from"), str) or turn["from"] not in SHAREGPT_ROLES:
            known = ", ".join(SHAREGPT_ROLES)
            where = f"conversations[{index}].from"
            raise RejectedError(number, where, f"must be one of {known}, not {_short(turn.get('from'))}")
        _text(turn.get("value"), number, f"conversations[{index}].value")
    turns = [{"role": SHAREGPT_ROLES[turn["from"]], "content": turn["value"]} for turn in said]
    return _messages({"messages": turns}, number)


def _preference(row: Row, number: int) -> tuple[Row, Counted]:
    """Texts with their prompt; or messages, whose prompt may be the turns with which both answers begin (as in TRL)."""
    chosen, rejected = (_column(row, number, column) for column in ("chosen", "rejected"))
    prompt = row.get("prompt")
    if prompt is None and isinstance(chosen, list) and isinstance(rejected, list):
        shared = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), 0)
        if not shared:
            raise RejectedError(number, "prompt", "missing, and chosen and rejected do not begin alike: add the prompt")
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    parts = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    if any(isinstance(part, list) for part in parts.values()):
        counts = [_conversation(part, number, column) for column, part in parts.items()]
        for column in ("chosen", "rejected"):
            if any(turn["role"] != "assistant" for turn in parts[column][:1]):
                raise RejectedError(number, column, "must begin with the assistant: leave the prompt out of it")
        characters = [characters for characters, _ in counts]
    else:
        characters = [_text(part, number, column) for column, part in parts.items()]
    if chosen == rejected:
        raise RejectedError(number, "rejected", "is equal to chosen: there is nothing to prefer")
    return parts, Counted(sum(characters), characters[1] + characters[2], parts)


OPENAI_NAMES = {"prompt": "input.messages", "chosen": "preferred_output", "rejected": "non_preferred_output"}


def _openai_preference(row: Row, number: int) -> tuple[Row, Counted]:
    """https://platform.openai.com/docs/guides/direct-preference-optimization"""
    given = _column(row, number, "input")
    if not isinstance(given, dict) or "messages" not in given:
        raise RejectedError(number, "input", f"must be an object with messages, not {kind_of(given)}")
    chosen, rejected = (_column(row, number, OPENAI_NAMES[name]) for name in ("chosen", "rejected"))
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if not isinstance(answer, list):
            raise RejectedError(number, OPENAI_NAMES[name], f"must be a list of messages, not {kind_of(answer)}")
    try:
        return _preference({"prompt": given["messages"], "chosen": chosen, "rejected": rejected}, number)
    except RejectedError as error:
        name, bracket, rest = error.column.partition("[")
        raise RejectedError(number, f"{OPENAI_NAMES.get(name, name)}{bracket}{rest}", error.reason) from error


def _labelled(row: Row, number: int) -> tuple[Row, Counted]:
    length = _text(_column(row, number, "text"), number, "text")
    label = _column(row, number, "label")
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise RejectedError(number, "label", f"must be a text or a whole number, not {kind_of(label)}")
    if isinstance(label, str):
        _text(label, number, "label")
    if len(str(label)) > MAX_LABEL_CHARACTERS:
        raise RejectedError(number, "label", f"has over {MAX_LABEL_CHARACTERS} characters: name the class shortly")
    return row, Counted(length, 0, [row["text"], label], label)


FORMS = {
    "messages": Form("messages", frozenset({"messages"}), _messages),
    "text": Form("text", frozenset({"text"}), _texts),
    "prompt-completion": Form("prompt-completion", frozenset({"prompt", "completion"}), _completions),
    "preference": Form("preference", frozenset({"chosen", "rejected"}), _preference, converts=True),
    "openai-preference": Form(
        "preference",
        frozenset({"input", "preferred_output", "non_preferred_output"}),
        _openai_preference,
        converts=True,
    ),
    "classification": Form("classification", frozenset({"text", "label"}), _labelled),
    "alpaca": Form("messages", frozenset({"instruction", "output"}), _alpaca, converts=True),
    "sharegpt": Form("messages", frozenset({"conversations"}), _sharegpt, converts=True),
}


def _column(row: dict[str, Any], number: int, column: str) -> Any:
    if column not in row:
        raise RejectedError(number, column, "missing: all rows have the columns of the first one")
    return row[column]


def _text(value: Any, number: int, column: str) -> int:
    """The characters of a text that is one."""
    if not isinstance(value, str):
        raise RejectedError(number, column, f"must be a text, not {kind_of(value)}")
    if not value.strip():
        raise RejectedError(number, column, "is empty")
    if "\0" in value:
        raise RejectedError(number, column, "holds a NUL character")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RejectedError(number, column, "holds half of a surrogate pair, which is no character") from error
    return len(value)


def kind_of(value: Any) -> str:
    if value == [] and isinstance(value, list):
        return "an empty list"
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _short(value: Any) -> str:
    return repr(value)[:40] if isinstance(value, str) else kind_of(value)
