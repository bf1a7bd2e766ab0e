"""The demo's data: real conversations of the ChatterBot language corpus (PyPI `chatterbot-corpus`, BSD licence).

The model is trained on small talk, science and technical support; the traffic that drifts asks about code and trivia,
topics of the same corpus that the training never saw.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import yaml

TRAINED_TOPICS = (
    "ai",
    "botprofile",
    "computers",
    "emotion",
    "gossip",
    "greetings",
    "humor",
    "literature",
    "psychology",
    "science",
    "tech_support",
)
DRIFTED_TOPICS = ("coding", "trivia", "sports", "money")
MAX_CHARACTERS = 240  # of one turn: the demo has two processor cores


def conversations(topics: tuple[str, ...]) -> list[list[str]]:
    """Conversations of the topics as lists of turns, each conversation once, in the corpus's order."""
    spec = importlib.util.find_spec("chatterbot_corpus")
    if spec is None or spec.origin is None:
        raise LookupError("the package chatterbot-corpus is missing: run `make setup`")
    folder = Path(spec.origin).parent / "data" / "english"
    found: dict[tuple[str, ...], None] = {}
    for topic in topics:
        corpus: dict[str, Any] = yaml.safe_load((folder / f"{topic}.yml").read_text(encoding="utf-8"))
        for turns in corpus["conversations"]:
            if len(turns) >= 2 and all(isinstance(turn, str) for turn in turns):
                found[tuple(turn.strip() for turn in turns)] = None
    return [list(turns) for turns in found]


def training_rows() -> list[dict[str, Any]]:
    """Rows in the `messages` format: one question, one answer."""
    return [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer, *_ in conversations(TRAINED_TOPICS)
        if len(question) <= MAX_CHARACTERS and len(answer) <= MAX_CHARACTERS
    ]


def write_training_file(path: Path) -> int:
    """Write the training rows as JSON Lines; returns how many."""
    rows = training_rows()
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return len(rows)


def familiar_prompts() -> list[str]:
    """Questions like those of the training."""
    return [row["messages"][0]["content"] for row in training_rows()]


def drifted_prompts() -> list[str]:
    """Questions on topics that the training never saw."""
    return [turns[0][:MAX_CHARACTERS] for turns in conversations(DRIFTED_TOPICS)]
