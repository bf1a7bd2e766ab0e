"""The Python client: what a user imports.

>>> from sskai.client import Client
>>> client = Client("http://127.0.0.1:8000", "sskai_...")
>>> dataset = client.datasets.upload("support.jsonl", name="support")
>>> job = client.jobs.create({"kind": "finetune", "name": "support-bot", ...})
>>> client.jobs.wait(job["id"])["state"]
'succeeded'

Answers are the API's JSON objects as dictionaries. A call that meets a gateway that restarts or is overloaded is tried
again for up to `retry_seconds`; POST requests carry an `Idempotency-Key`, so that a repeated one changes nothing twice.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import httpx2

Json: TypeAlias = dict[str, Any]

RETRIED_STATUSES = frozenset({429, 502, 503, 504})
JOB_ENDS = frozenset({"succeeded", "failed", "cancelled"})
ENDPOINT_ENDS = frozenset({"ready", "failed", "deleted"})


class SskaiError(Exception):
    """The gateway refused; `problem` is its RFC 9457 document, whose `detail` says what to do."""

    def __init__(self, status: int, problem: Json) -> None:
        self.status = status
        self.problem = problem
        super().__init__(f"{status} {problem.get('title', '')}: {problem.get('detail', '')}")


class Client:
    """One tenant's view of a gateway. Thread-safe; close it, or use it as a context manager."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout_seconds: float = 30.0,
        retry_seconds: float = 60.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._retry_seconds = retry_seconds
        self._http = httpx2.Client(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {api_key}", "User-Agent": "sskai-python"},
            timeout=timeout_seconds,
            transport=transport,
        )
        self.datasets = Datasets(self)
        self.models = Models(self)
        self.jobs = Jobs(self)
        self.plans = Plans(self)
        self.endpoints = Endpoints(self)
        self.receipts = Resource(self, "receipts")
        self.traces = Resource(self, "traces")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def request(self, method: str, path: str, *, timeout_seconds: float | None = None, **options: Any) -> Json:
        """One call, tried again while that is safe and may help. Raises SskaiError, or httpx2.HTTPError at the end."""
        headers = dict(options.pop("headers", {}))
        if method == "POST":
            headers.setdefault("Idempotency-Key", str(uuid.uuid4()))
        if timeout_seconds is not None:
            options["timeout"] = timeout_seconds
        deadline = time.monotonic() + self._retry_seconds
        pause = 0.2
        while True:
            last_try = time.monotonic() + pause >= deadline
            try:
                answer = self._http.request(method, path, headers=headers, **options)
            except httpx2.TransportError:
                if last_try:
                    raise
                _rewind(options)
            else:
                if answer.status_code not in RETRIED_STATUSES or last_try:
                    return _body(answer)
                pause = max(pause, min(30.0, float(answer.headers.get("retry-after", 0) or 0)))
                _rewind(options)
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 5.0)

    def events(self, *, after: str | None = None, types: list[str] | None = None) -> Iterator[Json]:
        """The tenant's events as CloudEvents, from after the event with id `after` on (None: all kept), for ever.

        A connection that breaks is made anew and goes on where it stopped.
        """
        last, failures = after, 0
        while True:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            query = {"types": ",".join(types)} if types else {}
            try:
                timeout = httpx2.Timeout(10.0, read=60.0)
                with self._http.stream("GET", "/v1/events", headers=headers, params=query, timeout=timeout) as stream:
                    if stream.status_code >= 400 and stream.status_code not in RETRIED_STATUSES:
                        stream.read()
                        _body(stream)
                    for event_id, event in _server_sent(stream.iter_lines(), last):
                        last, failures = event_id, 0
                        yield event
            except httpx2.TransportError:
                failures += 1
                if failures * 0.5 > self._retry_seconds:
                    raise
            time.sleep(0.2 if failures < 5 else 1.0)


class Resource:
    """A collection of the API: `list` and `get`."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._path = f"/v1/{name}"

    def get(self, id_: str) -> Json:
        """One of them. Raises SskaiError (404) if it is not there, or not yours."""
        return self._client.request("GET", f"{self._path}/{id_}")

    def list(self, **filters: Any) -> Iterator[Json]:
        """All of them, page by page."""
        after = filters.pop("after", None)
        while True:
            query = {"limit": 100, **filters} | ({"after": after} if after else {})
            page = self._client.request("GET", self._path, params=query)
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            after = page["data"][-1]["id"]

    def _create(self, body: Json, **options: Any) -> Json:
        return self._client.request("POST", self._path, json=body, **options)

    def _wait(self, id_: str, done: Callable[[Json], bool], limit_seconds: float, pause_seconds: float) -> Json:
        deadline = time.monotonic() + limit_seconds
        while True:
            one = self.get(id_)
            if done(one):
                return one
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._path}/{id_} is still {one.get('state')} after {limit_seconds:g} s")
            time.sleep(pause_seconds)


class Datasets(Resource):
    def __init__(self, client: Client) -> None:
        super().__init__(client, "datasets")

    def upload(self, path: str | Path, name: str) -> Json:
        """Upload a JSON Lines file; it is checked row by row and refused with row, column and reason."""
        with Path(path).open("rb") as file:
            return self._client.request(
                "POST",
                self._path,
                params={"name": name},
                content=file,
                headers={
                    "Content-Type": "application/jsonl",
                    "Content-Length": str(Path(path).stat().st_size),
                },
                timeout_seconds=600,
            )

    def preview(self, id_: str) -> Json:
        """The first rows."""
        return self._client.request("GET", f"{self._path}/{id_}/preview")


class Models(Resource):
    def __init__(self, client: Client) -> None:
        super().__init__(client, "models")

    def upload(self, folder: str | Path, name: str) -> Json:
        """Bring your own: a transformers folder (config.json, tokenizer files, *.safetensors)."""
        paths = sorted(path for path in Path(folder).iterdir() if path.is_file())
        with ExitStack() as opened:
            files = [("files", (path.name, opened.enter_context(path.open("rb")))) for path in paths]
            return self._client.request("POST", self._path, params={"name": name}, files=files, timeout_seconds=600)


class Jobs(Resource):
    def __init__(self, client: Client) -> None:
        super().__init__(client, "jobs")

    def create(self, job: Json) -> Json:
        """Submit a job file's content."""
        return self._create(job)

    def cancel(self, id_: str) -> Json:
        return self._client.request("POST", f"{self._path}/{id_}/cancel")

    def wait(self, id_: str, *, limit_seconds: float = 86_400, pause_seconds: float = 1.0) -> Json:
        """The job once it has ended. Raises TimeoutError."""
        return self._wait(id_, lambda job: job["state"] in JOB_ENDS, limit_seconds, pause_seconds)

    def trace(self, id_: str) -> Json:
        """The spans of the job's whole journey as a tree."""
        return self._client.request("GET", f"{self._path}/{id_}/trace")


class Plans(Resource):
    def __init__(self, client: Client) -> None:
        super().__init__(client, "plans")

    def create(self, job: Json, *, limit_seconds: float = 120) -> Json:
        """What a job would run on and cost, before anything is spent. A refusal raises SskaiError with its advice."""
        plan = self._create(job, timeout_seconds=60)
        if plan.get("state", "ready") != "pending":
            return plan
        return self._wait(plan["id"], lambda one: one.get("state") != "pending", limit_seconds, 0.5)


class Endpoints(Resource):
    def __init__(self, client: Client) -> None:
        super().__init__(client, "endpoints")

    def create(self, endpoint: Json) -> Json:
        return self._create(endpoint)

    def delete(self, id_: str) -> Json:
        return self._client.request("DELETE", f"{self._path}/{id_}")

    def wait(self, id_: str, *, limit_seconds: float = 600, pause_seconds: float = 0.5) -> Json:
        """The endpoint once it is ready, or failed. Raises TimeoutError."""
        return self._wait(id_, lambda one: one["state"] in ENDPOINT_ENDS, limit_seconds, pause_seconds)


def _body(answer: httpx2.Response) -> Json:
    try:
        body = answer.json() if answer.content else {}
    except ValueError:
        body = {"title": answer.reason_phrase, "detail": answer.text[:500]}
    if answer.status_code >= 400:
        raise SskaiError(answer.status_code, body if isinstance(body, dict) else {"detail": str(body)})
    return body if isinstance(body, dict) else {"data": body}


def _rewind(options: Json) -> None:
    """A file that was sent in part is sent again from its beginning."""
    for content in (options.get("content"), *(file for _, (_, file) in options.get("files", []))):
        if content is not None and hasattr(content, "seek"):
            content.seek(0)


def _server_sent(lines: Iterator[str], last: str | None) -> Iterator[tuple[str | None, Json]]:
    """Events of a `text/event-stream`, each with the id to resume after."""
    data: list[str] = []
    for line in lines:
        if line.startswith("id:"):
            last = line[3:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].strip())
        elif not line and data:
            yield last, json.loads("\n".join(data))
            data = []
