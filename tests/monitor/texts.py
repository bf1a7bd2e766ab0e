"""Real English by topic: what people ask chatbots (chatterbot-corpus, BSD) and programmers' jokes (pyjokes, BSD)."""

from __future__ import annotations

from importlib.resources import files

import pyjokes
import yaml


def questions(topic: str) -> list[str]:
    """The different questions of a topic: "trivia" has 261, "coding" 96, "psychology" 62, "ai" 61."""
    path = files("chatterbot_corpus") / "data" / "english" / f"{topic}.yml"
    conversations = yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
    return list(dict.fromkeys(str(conversation[0]) for conversation in conversations))


def jokes() -> list[str]:
    return list(pyjokes.get_jokes("en", "all"))
