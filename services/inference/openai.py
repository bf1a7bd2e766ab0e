"""OpenAI's shapes: what a request may say, what an answer and an error look like. Pure.

Fields of OpenAI's schema that would change the answer in a way that is not served are refused unless they hold their
default; fields that only label a request are taken and ignored; unknown ones are refused, as OpenAI does.
"""

from __future__ import annotations

import itertools
import json
import struct
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.inference.engine import TokenLogprob

MAX_TEXT_CHARACTERS = 1_000_000
MAX_MESSAGES = 1_000
Text = Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]
MAX_CHOICES = 8
MAX_TOP_LOGPROBS = 20  # OpenAI's; 5 for completions
MAX_BIASED_TOKENS = 300
MAX_SCHEMA_BYTES = 64 * 1024
MAX_INPUTS = 256
Penalty = Annotated[float, Field(ge=-2, le=2)]
Bias = Annotated[float, Field(ge=-100, le=100)]
TokenId = Annotated[str, Field(pattern=r"^[0-9]{1,9}$")]
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


class JsonSchema(_Strict):
    """`strict` changes nothing: an answer that does not match the schema cannot be drawn."""

    name: str = Field(min_length=1, max_length=64)
    description: str | None = Field(default=None, max_length=10_000)
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(_Strict):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema_where_it_belongs(self) -> Self:
        if (self.json_schema is not None) != (self.type == "json_schema"):
            raise ValueError("json_schema belongs to the type json_schema, and to no other")
        return self

    @property
    def schema_text(self) -> str:
        """What the answer must match, as JSON; empty: anything. Raises Refusal."""
        if self.type == "text":
            return ""
        text = json.dumps({"type": "object"} if self.json_schema is None else self.json_schema.schema_)
        if len(text) > MAX_SCHEMA_BYTES:
            raise Refusal(400, f"The schema is over {MAX_SCHEMA_BYTES} bytes.", param="response_format")
        return text


class _Request(_Strict):
    model: str = Field(min_length=1, max_length=256)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Bias], Field(max_length=MAX_BIASED_TOKENS)] | None = None
    min_tokens: int | None = Field(default=None, ge=0)  # not OpenAI's, but what vLLM calls it

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

    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_TOP_LOGPROBS)
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    modalities: list[Literal["text"]] | None = None
    store: Literal[False] | None = None

    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: Literal["auto", "default"] | None = None

    @model_validator(mode="after")
    def _top_of_what_is_told(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        return self

    @property
    def told_logprobs(self) -> int | None:
        """How many of the likeliest tokens are told beside each drawn one; None: nothing is told."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def schema_text(self) -> str:
        """What the answer must match, as JSON; empty: anything. Raises Refusal."""
        return self.response_format.schema_text if self.response_format is not None else ""

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
    logprobs: int | None = Field(default=None, ge=0, le=5)
    suffix: None = None

    @property
    def told_logprobs(self) -> int | None:
        return self.logprobs

    @property
    def schema_text(self) -> str:
        return ""


class EmbeddingRequest(_Strict):
    model: str = Field(min_length=1, max_length=256)
    input: Text | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None

    @property
    def texts(self) -> list[str]:
        return [self.input] if isinstance(self.input, str) else self.input


R = TypeVar("R", bound=BaseModel)

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
        message = f"{field}: {first['msg']}" if field else str(first["msg"])
        raise Refusal(400, message, param=field) from error


def usage(input_tokens: int, output_tokens: int, cached_tokens: int) -> dict[str, Any]:
    """`cached_tokens`: of the prompt, read for another request before."""
    return {
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens,
        "prompt_tokens_details": {"cached_tokens": cached_tokens},
    }


class Shape:
    """The answers to one request, whole or as chunks."""

    def __init__(self, inference_id: str, model: str, created: int, *, chat: bool) -> None:
        self._chat = chat
        self._name = "chat.completion" if chat else "text_completion"
        self._head: dict[str, Any] = {"id": inference_id, "created": created, "model": model}

    def whole(self, choices: Sequence[Mapping[str, Any]], used: Mapping[str, Any]) -> dict[str, Any]:
        return {**self._head, "object": self._name, "choices": list(choices), "usage": dict(used)}

    def choice(self, index: int, text: str, finish_reason: str, told: Sequence[TokenLogprob] | None) -> dict[str, Any]:
        """`told`: the tokens of the answer; None: they were not asked for."""
        content = {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        return {"index": index, **content, "finish_reason": finish_reason, "logprobs": self._logprobs(told, 0)}

    def _logprobs(self, told: Sequence[TokenLogprob] | None, offset: int) -> dict[str, Any] | None:
        if told is None:
            return None
        return chat_logprobs(told) if self._chat else completion_logprobs(told, offset)

    def first_chunk(self, index: int) -> bytes:
        """Says who speaks, before there is anything to say; a text completion has no such chunk."""
        return self._chunk(index, {"delta": {"role": "assistant", "content": ""}}, None, None) if self._chat else b""

    def chunk(
        self, index: int, text: str, finish_reason: str | None, told: Sequence[TokenLogprob] | None, offset: int = 0
    ) -> bytes:
        """`offset`: characters of the answer before this chunk."""
        logprobs = self._logprobs(told, offset)
        if not self._chat:
            return self._chunk(index, {"text": text}, finish_reason, logprobs)
        return self._chunk(index, {"delta": {"content": text} if text else {}}, finish_reason, logprobs)

    def usage_chunk(self, used: Mapping[str, Any]) -> bytes:
        return event({**self._head, "object": self._object, "choices": [], "usage": dict(used)})

    def _chunk(
        self, index: int, content: Mapping[str, Any], finish_reason: str | None, logprobs: Mapping[str, Any] | None
    ) -> bytes:
        choice = {"index": index, **content, "finish_reason": finish_reason, "logprobs": logprobs}
        return event({**self._head, "object": self._object, "choices": [choice]})

    @property
    def _object(self) -> str:
        return "chat.completion.chunk" if self._chat else self._name


def chat_logprobs(told: Sequence[TokenLogprob]) -> dict[str, Any]:
    content = [
        {**_token(one.text, one.logprob), "top_logprobs": [_token(text, logprob) for text, logprob in one.top]}
        for one in told
    ]
    return {"content": content, "refusal": None}


def _token(text: str, logprob: float) -> dict[str, Any]:
    # Part of a character: its bytes are not known here, and OpenAI's schema lets them be absent.
    whole = None if "\ufffd" in text else list(text.encode())
    return {"token": text, "logprob": max(logprob, LEAST_LOGPROB), "bytes": whole}


def completion_logprobs(told: Sequence[TokenLogprob], offset: int) -> dict[str, Any]:
    offsets = itertools.accumulate((len(one.text) for one in told), initial=offset)
    return {
        "tokens": [one.text for one in told],
        "token_logprobs": [max(one.logprob, LEAST_LOGPROB) for one in told],
        "top_logprobs": [{text: max(logprob, LEAST_LOGPROB) for text, logprob in one.top} for one in told],
        "text_offset": list(offsets)[: len(told)],
    }


# JSON has no infinity; OpenAI's word for "very unlikely".
LEAST_LOGPROB = -9999.0


def embeddings(model: str, vectors: Sequence[Sequence[float]], input_tokens: int, *, base64: bool) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if base64 else list(vector)}
        for index, vector in enumerate(vectors)
    ]
    used = {"prompt_tokens": input_tokens, "total_tokens": input_tokens}
    return {"object": "list", "model": model, "data": data, "usage": used}


def _packed(vector: Sequence[float]) -> str:
    """Little-endian 32-bit numbers, as OpenAI's client unpacks them."""
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


DONE = b"data: [DONE]\n\n"


def event(body: Mapping[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"
