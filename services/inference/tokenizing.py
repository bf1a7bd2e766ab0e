"""A model's own tokenizer and chat template, safe for several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from transformers import AutoTokenizer

from services.inference.engine import PromptError


class Tokenizing:
    """`lock`: fast tokenizers refuse two threads at once."""

    def __init__(self, folder: Path) -> None:
        # Nothing in the folder may run, and nothing may be fetched from elsewhere.
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self._lock = threading.Lock()

    def chat(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Ready for the assistant's turn. Raises PromptError."""
        if not self.tokenizer.chat_template:
            raise PromptError("this model has no chat template: use /v1/completions")
        try:
            with self._lock:
                text = self.tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
                tokens: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        except (TemplateError, ValueError, TypeError) as error:
            raise PromptError(f"the model's chat template refuses these messages: {error}") from error
        return tokens

    def text(self, text: str) -> list[int]:
        with self._lock:
            tokens: list[int] = self.tokenizer(text)["input_ids"]
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        with self._lock:
            text: str = self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text
