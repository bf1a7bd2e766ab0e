"""What is spoken between the service and a replica: JSON, and pieces of answers as a JSON object a line.

An empty line says "still here". Nothing leaves out a token: what was told before a connection broke is enough to go on
elsewhere. Service and replicas are of one release, so the format has no versions.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from services.inference.engine import (
    EngineError,
    EngineFailedError,
    GrammarError,
    NotLoadedError,
    OverloadedError,
    Piece,
    PromptError,
    Said,
    Sampling,
    TokenLogprob,
    Work,
)

BEAT = b"\n"
# At most so long between two lines; a caller that hears nothing for a few of them may go elsewhere.
BEAT_SECONDS = 1.0


class DrainingError(EngineError):
    """This replica takes nothing new: another one will answer."""


# The refusal's name on the wire, its HTTP status and what it is raised as.
REFUSALS: dict[str, tuple[int, type[EngineError]]] = {
    "draining": (503, DrainingError),
    "failed": (500, EngineFailedError),
    "overloaded": (429, OverloadedError),
    "not-loaded": (404, NotLoadedError),
    "prompt": (400, PromptError),
    "grammar": (400, GrammarError),
    "engine": (500, EngineError),  # last: the others are kinds of it
}


def status_of(error: EngineError) -> int:
    return REFUSALS[_kind_of(error)][0]


def error_body(error: EngineError) -> dict[str, Any]:
    return {"error": {"kind": _kind_of(error), "detail": str(error)[:2000]}}


def error_of(body: Any) -> EngineError:
    """What a refusal's body says; an EngineFailedError for anything that is none."""
    try:
        kind, detail = body["error"]["kind"], str(body["error"]["detail"])
        raised = REFUSALS[kind][1]
    except (KeyError, TypeError, IndexError):
        return EngineFailedError(f"the replica answered {str(body)[:200]!r}")
    if raised is OverloadedError:
        refusal = OverloadedError(0)
        refusal.args = (detail,)
        return refusal
    return raised(detail)


def _kind_of(error: EngineError) -> str:
    return next(kind for kind, (_, raised) in REFUSALS.items() if isinstance(error, raised))


def generate_body(tokens: list[int], sampling: Sampling, said: Said) -> dict[str, Any]:
    return {"tokens": tokens, "sampling": asdict(sampling), "said": asdict(said)}


def sampling_of(value: Mapping[str, Any]) -> Sampling:
    """Raises TypeError, ValueError, KeyError."""
    given = dict(value)
    given["stop"] = tuple(map(str, given.get("stop", ())))
    given["logit_bias"] = tuple((int(token), float(bias)) for token, bias in given.get("logit_bias", ()))
    return Sampling(**given)


def said_of(value: Mapping[str, Any]) -> Said:
    return Said(tuple(map(int, value["tokens"])), float(value["logprob_sum"]))


_DEFAULTS = {one.name: one.default for one in fields(Piece)}


def line_of(piece: Piece | EngineError) -> bytes:
    """One line; fields that have their default are left out."""
    if isinstance(piece, EngineError):
        return json.dumps(error_body(piece)).encode() + b"\n"
    value: dict[str, Any] = {"text": piece.text, "output_tokens": piece.output_tokens}
    for name in ("finish_reason", "mean_logprob", "tokens", "vector"):
        if (found := getattr(piece, name)) != _DEFAULTS[name]:
            value[name] = found
    if piece.logprobs:
        value["logprobs"] = [[one.text, one.logprob, one.top] for one in piece.logprobs]
    if piece.finish_reason is not None:
        value["work"] = asdict(piece.work)
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def piece_of(line: str | bytes) -> Piece | EngineError:
    """Raises ValueError for what is no whole line."""
    value = json.loads(line)
    try:
        if "error" in value:
            return error_of(value)
        return Piece(
            text=value["text"],
            output_tokens=value["output_tokens"],
            finish_reason=value.get("finish_reason"),
            mean_logprob=value.get("mean_logprob", 0.0),
            logprobs=tuple(
                TokenLogprob(text, logprob, tuple((other, number) for other, number in top))
                for text, logprob, top in value.get("logprobs", ())
            ),
            vector=tuple(value.get("vector", ())),
            work=Work(**value.get("work", {})),
            tokens=tuple(value.get("tokens", ())),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a piece: {error!r}") from error
