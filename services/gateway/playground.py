"""What a page, or a person, needs to try an endpoint: how it is asked, with which knobs, and what to ask it. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from services.gateway.values import IMAGE_CLASSIFICATION, TEXT_TO_IMAGE

TEXT_CLASSIFICATION = "text-classification"
MAX_EXAMPLES = 5
MAX_EXAMPLE_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Knob:
    """A field of the request that a person may turn. None: there is no such bound."""

    name: str
    type: str  # "integer" | "number" | "text" | "choice"
    default: float | str | None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """How models of a kind are asked. `streams`: whether an answer may come piece by piece."""

    operation: str
    route: str
    streams: bool
    knobs: tuple[Knob, ...] = ()


SEED = Knob("seed", "integer", None, 0, 2**63 - 1)
CHAT = Way(
    "chat",
    "/v1/chat/completions",
    True,
    (
        Knob("max_completion_tokens", "integer", 256, 1),
        Knob("temperature", "number", 1.0, 0, 2),
        Knob("top_p", "number", 1.0, 0, 1),
        Knob("frequency_penalty", "number", 0.0, -2, 2),
        Knob("presence_penalty", "number", 0.0, -2, 2),
        SEED,
    ),
)
PICTURES = Way(
    "images",
    "/v1/images/generations",
    False,
    (
        Knob("n", "integer", 1, 1, 4),
        Knob("size", "text", "auto"),
        Knob("num_inference_steps", "integer", 50, 1, 150),
        Knob("guidance_scale", "number", 7.5, 0, 30),
        Knob("negative_prompt", "text", None),
        Knob("output_format", "choice", "png", choices=("png", "jpeg", "webp")),
        SEED,
    ),
)
INFER = "infer"


def way_of(task: str, name: str, *, is_code: bool, context_tokens: int | None) -> Way:
    """By what the model is for; `context_tokens` bounds what an answer may be asked to have."""
    if is_code or task in (TEXT_CLASSIFICATION, IMAGE_CLASSIFICATION):
        return Way(INFER, f"/v2/models/{name}/infer", False)
    if task == TEXT_TO_IMAGE:
        return PICTURES
    tokens, *others = CHAT.knobs
    longest = Knob(tokens.name, tokens.type, min(256, context_tokens or 256), 1, context_tokens)
    return Way(CHAT.operation, CHAT.route, CHAT.streams, (longest, *others))


def context_tokens(config_json: str) -> int | None:
    """What a model's configuration says that it can read and write together; None: it does not say."""
    config = json.loads(config_json or "{}")
    found = (config.get("text_config") or config).get("max_position_embeddings", config.get("n_positions"))
    return found if isinstance(found, int) and found > 0 else None


def examples(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What rows of the training data ask, each once; too long ones are cut."""
    asked = dict.fromkeys(text for row in rows if (text := _question(row)))
    return [text[:MAX_EXAMPLE_CHARACTERS] for text in list(asked)[:MAX_EXAMPLES]]


def _question(row: Mapping[str, Any]) -> str:
    messages = row.get("messages") or row.get("prompt") or row.get("text") or ""
    if isinstance(messages, str):
        return messages.strip()
    of_users = (one.get("content") for one in messages if isinstance(one, Mapping) and one.get("role") == "user")
    return next((text.strip() for text in of_users if isinstance(text, str)), "")


def body_of(way: Way, name: str, example: str, task: str) -> dict[str, Any]:
    """A request that can be sent as it is."""
    if way.operation == CHAT.operation:
        return {"model": name, "messages": [{"role": "user", "content": example or "Hello"}]}
    if way.operation == PICTURES.operation:
        return {"model": name, "prompt": example or "a cat in stripes"}
    if task == TEXT_CLASSIFICATION:
        tensor: dict[str, Any] = {"name": "text", "datatype": "BYTES", "shape": [1], "data": [example or "Hello"]}
    elif task == IMAGE_CLASSIFICATION:
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["<a picture, base64>"]}
    else:
        tensor = {"name": "input", "datatype": "FP32", "shape": [1, 1], "data": [0.0]}
    return {"inputs": [tensor]}


def snippets(way: Way, base_url: str, body: Mapping[str, Any]) -> dict[str, str]:
    """The same request for a terminal and, where OpenAI's client has a call for it, for Python. `$SSKAI_API_KEY`."""
    url = base_url.rstrip("/") + way.route
    curl = (
        f"curl {shlex.quote(url)} \\\n"
        '  -H "Authorization: Bearer $SSKAI_API_KEY" -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
    )
    call = {CHAT.operation: "chat.completions.create", PICTURES.operation: "images.generate"}.get(way.operation)
    if call is None:
        return {"curl": curl}
    given = ",\n".join(f"    {name}={value!r}" for name, value in body.items())
    python = (
        "import os\n\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(base_url={base_url.rstrip("/") + "/v1"!r}, api_key=os.environ["SSKAI_API_KEY"])\n'
        f"answer = client.{call}(\n{given},\n)\nprint(answer)\n"
    )
    return {"curl": curl, "python": python}


def shown(way: Way) -> dict[str, Any]:
    """As the API tells it."""
    return {
        "operation": way.operation,
        "route": way.route,
        "streams": way.streams,
        "parameters": [asdict(knob) for knob in way.knobs],
    }
