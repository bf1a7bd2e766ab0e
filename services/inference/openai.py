"""OpenAI's shapes: what a request may say, what an answer and an error look like. Pure.

Fields of OpenAI's schema that would change the answer in a way that is not served are refused unless they hold their
default; fields that only label a request are taken and ignored; unknown ones are refused, as OpenAI does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MAX_TEXT_CHARACTERS = 1_000_000
MAX_MESSAGES = 1_000
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]
Zero = Annotated[float, Field(ge=0, le=0)]
Stop = Annotated[str, Field(min_length=1, max_length=1_000)]


class Refusal(Exception):  # noqa: N818 (it is an answer)
    """An error answer: HTTP status and OpenAI's error object."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class TextPart(_Strict):
    type: Literal["text"]
    text: Text


class Message(_Strict):
    role: Literal["system", "developer", "user", "assistant"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=100)]
    name: str | None = Field(default=None, max_length=64)  # ignored: chat templates have no place for it

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool | None = None  # ignored: lengths are visible to whoever may read the answer


class _Request(_Strict):
    model: str = Field(min_length=1, max_length=256)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    n: Literal[1] | None = None
    presence_penalty: Zero | None = None
    frequency_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    user: str | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(_Request):
    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(default=None, ge=1)

    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None
    modalities: list[Literal["text"]] | None = None
    store: Literal[False] | None = None

    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "default"] | None = None

    @property
    def asked_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    def conversation(self) -> list[dict[str, str]]:
        """As chat templates take it; "developer" is what OpenAI calls "system" now."""
        roles = {"developer": "system"}
        return [{"role": roles.get(one.role, one.role), "content": one.text} for one in self.messages]

    @property
    def last_user_text(self) -> str:
        return next((one.text for one in reversed(self.messages) if one.role == "user"), "")


class CompletionRequest(_Request):
    prompt: Text

    best_of: Literal[1] | None = None
    echo: Literal[False] | None = None
    logprobs: None = None
    suffix: None = None


R = TypeVar("R", bound=_Request)

DEFAULT_COMPLETION_TOKENS = 16  # OpenAI's


def parse(kind: type[R], body: bytes) -> R:
    """The request, or a Refusal that names the field."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or None
        if first["type"] == "extra_forbidden":
            raise Refusal(400, f"Unrecognized request argument supplied: {field}", param=field) from error
        if first["type"] == "json_invalid":
            raise Refusal(400, f"The body is not JSON: {first['msg']}") from error
        raise Refusal(400, f"{field}: {first['msg']}", param=field) from error


def usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
    }


class Shape:
    """The answers to one request, whole or as chunks."""

    def __init__(self, inference_id: str, model: str, created: int, *, chat: bool) -> None:
        self._chat = chat
        self._name = "chat.completion" if chat else "text_completion"
        self._head: dict[str, Any] = {"id": inference_id, "created": created, "model": model}

    def whole(self, text: str, finish_reason: str, used: Mapping[str, int]) -> dict[str, Any]:
        content = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        choice = {"index": 0, **content, "finish_reason": finish_reason, "logprobs": None}
        return {**self._head, "object": self._name, "choices": [choice], "usage": dict(used)}

    def first_chunk(self) -> bytes:
        """Says who speaks, before there is anything to say; a text completion has no such chunk."""
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, None) if self._chat else b""

    def chunk(self, text: str, finish_reason: str | None) -> bytes:
        if not self._chat:
            return self._chunk({"text": text}, finish_reason)
        return self._chunk({"delta": {"content": text} if text else {}}, finish_reason)

    def usage_chunk(self, used: Mapping[str, int]) -> bytes:
        return event({**self._head, "object": self._object, "choices": [], "usage": dict(used)})

    def _chunk(self, content: Mapping[str, Any], finish_reason: str | None) -> bytes:
        choice = {"index": 0, **content, "finish_reason": finish_reason, "logprobs": None}
        return event({**self._head, "object": self._object, "choices": [choice]})

    @property
    def _object(self) -> str:
        return "chat.completion.chunk" if self._chat else self._name


DONE = b"data: [DONE]\n\n"


def event(body: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
