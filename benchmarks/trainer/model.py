"""The model that the trainer's figures are taken on, and its rows."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from sskai.local.paths import cache_folder
from tests import tiny_model

ROWS = [
    json.dumps(
        {
            "prompt": f"Where is order {number}, and what happens when it is late?",
            "completion": f" Order {number} was shipped yesterday and comes in {number % 7} days; a late one is free.",
        }
    ).encode()
    for number in range(64)
]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", type=Path, help="a transformers folder; default: SmolLM2-135M, else a tiny Llama")


def folder(arguments: argparse.Namespace, scratch: Path) -> Path:
    """SmolLM2-135M-Instruct where `SSKAI_MODELS_DIR` or the cache has it."""
    if arguments.model:
        return Path(arguments.model)
    models_dir = Path(os.environ.get("SSKAI_MODELS_DIR", cache_folder() / "models"))
    real = models_dir / "smollm2-135m-instruct"
    return real if (real / "config.json").is_file() else tiny_model.build(scratch / "tiny")
