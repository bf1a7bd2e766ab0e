"""Real English by topic: what people ask chatbots (chatterbot-corpus, BSD), programmers' jokes (pyjokes, BSD), and the
manuals of AWS's services as botocore brings them (Apache-2.0): thousands of texts each, all in one style."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Any

import pyjokes
import yaml


def questions(topic: str) -> list[str]:
    """The different questions of a topic: "trivia" has 261, "coding" 96, "psychology" 62, "ai" 61."""
    path = files("chatterbot_corpus") / "data" / "english" / f"{topic}.yml"
    conversations = yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
    return list(dict.fromkeys(str(conversation[0]) for conversation in conversations))


def jokes() -> list[str]:
    return list(pyjokes.get_jokes("en", "all"))


@lru_cache(8)
def _manual(service: str) -> tuple[str, ...]:
    newest = max((files("botocore") / "data" / service).iterdir(), key=lambda folder: folder.name)
    model = json.loads(gzip.decompress((newest / "service-2.json.gz").read_bytes()))
    plain = (re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text)).strip() for text in _documentation(model))
    return tuple(dict.fromkeys(text for text in plain if len(text) >= 20))


def manual(service: str) -> list[str]:
    """The different paragraphs of a service's manual, in its order: "ec2" has 9,700, "quicksight" 5,700."""
    return list(_manual(service))


def _documentation(model: Any) -> Iterator[str]:
    if isinstance(model, dict):
        for key, value in model.items():
            if key == "documentation" and isinstance(value, str):
                yield value
            else:
                yield from _documentation(value)
    elif isinstance(model, list):
        for value in model:
            yield from _documentation(value)
