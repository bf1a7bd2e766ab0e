# Made by `python -m tools.sync_client` of ../_async: edit that.
"""Endpoints, what is asked of them, and what they are watched for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sskai.client._sync.transport import Resource
from sskai.client.documents import ChatAnswer, ChatMessages, Document, Documents, Endpoint
from sskai.client.errors import SskaiError
from sskai.client.wire import given

ENDPOINT_ENDS = ("ready", "failed", "deleted")
ANSWER_SECONDS = 300.0
DONE = "[DONE]"


class Endpoints(Resource):
    def create(
        self, name: str, model: str, *, kind: str = "adapter", sample_rate: float = 1.0, **more: Any
    ) -> Endpoint:
        """Serve a model (`NAME@VERSION` or a foundation model's id) under a name. `more`: promotion, replicas, ..."""
        form = {"name": name, "model": model, "kind": kind, "sample_rate": sample_rate, **more}
        return self._client.ask(Endpoint, "POST", "/v1/endpoints", json=form)

    def change(self, endpoint_id: str, **change: Any) -> Endpoint:
        """`canary="NAME@VERSION"`, `promote=True`, `roll_back=True` or `promotion={...}`."""
        return self._client.ask(Endpoint, "PATCH", f"/v1/endpoints/{endpoint_id}", json=change)

    def get(self, endpoint_id: str) -> Endpoint:
        return self._client.ask(Endpoint, "GET", f"/v1/endpoints/{endpoint_id}")

    def list(self) -> Iterator[Endpoint]:
        return self._client.pages(Endpoint, "/v1/endpoints")

    def wait(self, endpoint_id: str, *, limit_seconds: float = 600, poll_seconds: float = 0.5) -> Endpoint:
        """The endpoint once it is ready, failed or gone. TimeoutError after the limit."""
        return self._client.until(
            Endpoint,
            f"/v1/endpoints/{endpoint_id}",
            lambda endpoint: endpoint["state"] in ENDPOINT_ENDS,
            limit_seconds=limit_seconds,
            poll_seconds=poll_seconds,
        )

    def delete(self, endpoint_id: str) -> Endpoint:
        return self._client.ask(Endpoint, "DELETE", f"/v1/endpoints/{endpoint_id}")

    def playground(self, endpoint_id: str) -> Document:
        """How to ask it: its route, what may be turned and within which bounds, examples, code to copy."""
        return self._client.ask(dict[str, Any], "GET", f"/v1/endpoints/{endpoint_id}/playground")

    def drift(self, endpoint_id: str) -> Document:
        """Every drift test of its versions: statistic, threshold, samples, and what was told, in words."""
        return self._client.ask(dict[str, Any], "GET", f"/v1/endpoints/{endpoint_id}/drift")


class Objectives(Resource):
    """What an endpoint (its id or its name) promises."""

    def get(self, endpoint: str) -> Document:
        """What it promises, whether it keeps it, and how fast it spends its budgets of errors."""
        return self._client.ask(dict[str, Any], "GET", f"/v1/endpoints/{endpoint}/objectives")

    def put(self, endpoint: str, objectives: Documents) -> Document:
        """`[{"name": "latency", "target": 0.99, "at_most_seconds": 2}]` from now on."""
        form = {"objectives": objectives}
        return self._client.ask(dict[str, Any], "PUT", f"/v1/endpoints/{endpoint}/objectives", json=form)

    def delete(self, endpoint: str) -> None:
        self._client.ask(dict[str, Any], "DELETE", f"/v1/endpoints/{endpoint}/objectives")


class Retraining(Resource):
    """When the model of an endpoint (its id or its name) is trained again, and who has to say yes."""

    def get(self, endpoint: str) -> Document:
        """The policy, what waits for somebody (`pending`), and the loop so far (`timeline`), newest first."""
        return self._client.ask(dict[str, Any], "GET", f"/v1/endpoints/{endpoint}/retraining")

    def put(self, endpoint: str, mode: str, **policy: Any) -> Document:
        """`mode`: suggest, approve or auto. `policy`: on, data, cooldown, budget_usd_per_month, ..."""
        form = {"mode": mode, **policy}
        return self._client.ask(dict[str, Any], "PUT", f"/v1/endpoints/{endpoint}/retraining", json=form)

    def delete(self, endpoint: str) -> None:
        self._client.ask(dict[str, Any], "DELETE", f"/v1/endpoints/{endpoint}/retraining")

    def approve(self, endpoint: str, retrain_id: str) -> Document:
        return self._decide(endpoint, retrain_id, "approve")

    def decline(self, endpoint: str, retrain_id: str) -> Document:
        return self._decide(endpoint, retrain_id, "decline")

    def _decide(self, endpoint: str, retrain_id: str, word: str) -> Document:
        path = f"/v1/endpoints/{endpoint}/retraining/{retrain_id}/{word}"
        return self._client.ask(dict[str, Any], "POST", path)


class Chat(Resource):
    """Chat completions, as OpenAI has them. `client.openai()` gives the rest of that API."""

    def create(self, model: str, messages: ChatMessages, **options: Any) -> ChatAnswer:
        """An answer in one piece. `options`: max_tokens, temperature, response_format, ..."""
        body = {"model": model, "messages": messages, **options}
        return self._client.ask(ChatAnswer, "POST", "/v1/chat/completions", json=body, timeout=ANSWER_SECONDS)

    def stream(self, model: str, messages: ChatMessages, **options: Any) -> Iterator[str]:
        """An answer's text as it comes. Raises SskaiError, also for an answer that breaks off."""
        body = {"model": model, "messages": messages, "stream": True, **options}
        pieces = self._client.answer_in_pieces("/v1/chat/completions", body, silence_seconds=ANSWER_SECONDS)
        for piece in pieces:
            if piece == DONE:
                return
            told = json.loads(piece)
            if error := told.get("error"):
                raise SskaiError({"title": "The answer broke off", "detail": str(error.get("message", error))})
            for choice in told.get("choices", []):
                if text := choice.get("delta", {}).get("content"):
                    yield text

    def feedback(
        self, answer_id: str, *, score: float | None = None, label: str | None = None, correction: str | None = None
    ) -> Document:
        """Praise or blame an answer by its id, for the version that gave it."""
        form = given(id=answer_id, score=score, label=label, correction=correction)
        return self._client.ask(dict[str, Any], "POST", "/v1/feedback", json=form)
