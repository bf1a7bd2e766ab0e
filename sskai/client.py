"""The Python client: everything the HTTP API offers, typed, and deaf to restarts of the gateway.

>>> from sskai.client import Client
>>> sskai = Client("http://127.0.0.1:8000", "sskai_...")
>>> sskai.datasets.upload("support.jsonl", name="support")
>>> job = sskai.jobs.create({"name": "bot", "model": {"base": "smollm2-135m-instruct"}, "dataset": {"uri": "support"}})
>>> sskai.jobs.wait(job["id"])["state"]
'succeeded'

What goes wrong in between (no connection, 429, 502, 503, 504) is tried again with growing pauses for up to a minute; a
POST carries an Idempotency-Key of its own, so trying it again makes nothing twice. What is wrong with a request raises
SskaiError with the gateway's problem document.
"""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import httpx2

from sskai.client_money import Budgets, Costs

Document: TypeAlias = dict[str, Any]
Documents: TypeAlias = list[Document]

RETRIED_STATUSES = {429, 502, 503, 504}
FIRST_PAUSE_SECONDS = 0.2
LAST_PAUSE_SECONDS = 5.0
RETRY_SECONDS = 60.0
REQUEST_SECONDS = 60.0
# The gateway sends a comment on a silent stream every 10 s: so much silence means that the connection is dead.
STREAM_SILENCE_SECONDS = 35.0
JOB_ENDS = ("succeeded", "failed", "cancelled")


class SskaiError(Exception):
    """The gateway refused. `problem` is its RFC 9457 document: title, detail, and what it says beyond."""

    def __init__(self, problem: Document) -> None:
        super().__init__(f"{problem.get('title', 'error')}: {problem.get('detail', '')}")
        self.problem = problem
        self.status = int(problem.get("status", 0))


class UnreachableError(SskaiError):
    """Nothing answered for as long as it was tried."""

    def __init__(self, reason: str) -> None:
        super().__init__({"title": "The gateway is not reachable", "detail": reason, "status": 0})


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. `position` is where to resume after it; `data` is the CloudEvent's content."""

    position: int
    type: str  # "JobSucceeded"
    subject: str
    cloudevent: Document

    @property
    def data(self) -> Document:
        data: Document = self.cloudevent["data"]
        return data


class Client:
    """Synchronous, safe to use from several threads. Close it, or use it in a `with`."""

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        retry_seconds: float = RETRY_SECONDS,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._http = httpx2.Client(
            base_url=base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {api_key}", "User-Agent": "sskai-python"},
            timeout=httpx2.Timeout(REQUEST_SECONDS, connect=5),
            transport=transport,
        )
        self._retry_seconds = retry_seconds
        self.datasets = Datasets(self)
        self.models = Models(self)
        self.plans = Plans(self)
        self.jobs = Jobs(self)
        self.endpoints = Endpoints(self)
        self.receipts = Receipts(self)
        self.costs = Costs(self)
        self.budgets = Budgets(self)
        self.traces = Traces(self)
        self.keys = Keys(self)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def sign_in_link(self) -> Document:
        """`url` signs a browser in once, as this client's key, until `expires_at`."""
        return self.request("POST", "/v1/session/links")

    def request(self, method: str, path: str, **options: Any) -> Document:
        """One request, tried again while it is not the request's fault. Raises SskaiError."""
        answer = self._retrying(lambda: self._http.request(method, path, **_with_key(method, options)))
        document: Document = answer.json() if answer.content else {}
        return document

    def save(self, path: str, params: Document, file: Path) -> int:
        """Write an answer into a file as it comes; returns its bytes. Raises SskaiError."""
        timeout = httpx2.Timeout(STREAM_SILENCE_SECONDS, connect=5)
        with self._http.stream("GET", path, params=params, timeout=timeout) as answer:
            if answer.is_error:
                answer.read()
                raise SskaiError(_problem(answer))
            with file.open("wb") as out:
                return sum(out.write(piece) for piece in answer.iter_bytes())

    def upload(self, path: str, open_body: Callable[[ExitStack], Document], *, timeout_seconds: float) -> Document:
        """A POST whose body is read from files anew at every try."""
        headers = {"Idempotency-Key": secrets.token_hex(16)}

        def send() -> httpx2.Response:
            with ExitStack() as files:
                options = open_body(files)
                options["headers"] = {**headers, **options.get("headers", {})}
                return self._http.post(path, timeout=timeout_seconds, **options)

        document: Document = self._retrying(send).json()
        return document

    def pages(self, path: str, **filters: Any) -> Iterator[Document]:
        """Every item of a list, page after page."""
        after: str | None = None
        while True:
            wanted = {"limit": 100, "after": after, **filters}
            page = self.request(
                "GET", path, params={name: value for name, value in wanted.items() if value is not None}
            )
            yield from page["data"]
            after = page["next"]
            if after is None:
                return

    def events(
        self, *, after: int | None = None, types: Iterable[str] = (), subject: str | None = None
    ) -> Iterator[Event]:
        """Facts as they happen, without end; `after=0` begins with the oldest. A lost connection is resumed."""
        filters = {"types": ",".join(types) or None, "subject": subject}
        failing_since: float | None = None
        pause = FIRST_PAUSE_SECONDS
        while True:
            wanted = {name: value for name, value in {**filters, "after": after}.items() if value is not None}
            timeout = httpx2.Timeout(STREAM_SILENCE_SECONDS, connect=5)
            try:
                with self._http.stream("GET", "/v1/events", params=wanted, timeout=timeout) as answer:
                    if answer.status_code not in RETRIED_STATUSES:
                        if answer.is_error:
                            answer.read()
                            raise SskaiError(_problem(answer))
                        failing_since, pause = None, FIRST_PAUSE_SECONDS
                        for position, event in _events(answer.iter_lines()):
                            after = position
                            if event is not None:
                                yield event
                reason = f"HTTP {answer.status_code}" if answer.is_error else "the stream ended"
            except httpx2.TransportError as error:
                reason = repr(error)
            failing_since = failing_since or time.monotonic()
            if time.monotonic() - failing_since > self._retry_seconds:
                raise UnreachableError(reason)
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, LAST_PAUSE_SECONDS)

    def _retrying(self, send: Callable[[], httpx2.Response]) -> httpx2.Response:
        until, pause = time.monotonic() + self._retry_seconds, FIRST_PAUSE_SECONDS
        while True:
            asked = 0.0
            try:
                answer = send()
            except httpx2.TransportError as error:
                failure: SskaiError = UnreachableError(repr(error))
            else:
                if not answer.is_error:
                    return answer
                failure = SskaiError(_problem(answer))
                if answer.status_code not in RETRIED_STATUSES:
                    raise failure
                retry_after = answer.headers.get("retry-after", "")
                asked = float(retry_after) if retry_after.isdecimal() else 0.0
            wait = max(asked, pause * random.uniform(0.5, 1))
            if time.monotonic() + wait > until:
                raise failure
            time.sleep(wait)
            pause = min(2 * pause, LAST_PAUSE_SECONDS)


DATASET_TYPES = {
    ".jsonl": "application/jsonl",
    ".csv": "text/csv",
    ".parquet": "application/vnd.apache.parquet",
    ".zip": "application/zip",
}


PIPELINE = "model_index.json"  # of diffusers
PIPELINE_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")  # that it is trained with


class _Resource:
    def __init__(self, client: Client) -> None:
        self._client = client


class Datasets(_Resource):
    def upload(self, path: str | Path, name: str) -> Document:
        """Upload JSON Lines, CSV, Parquet or a zip of images, told by its name, else by its content; SskaiError with
        row, column and reason if a row is wrong."""
        size = Path(path).stat().st_size
        kind = DATASET_TYPES.get(Path(path).suffix.lower(), "application/octet-stream")

        def body(files: ExitStack) -> Document:
            return {
                "params": {"name": name},
                "content": files.enter_context(Path(path).open("rb")),
                # A known length lets the gateway refuse what is too large before it is sent.
                "headers": {"Content-Type": kind, "Content-Length": str(size)},
            }

        return self._client.upload("/v1/datasets", body, timeout_seconds=600)

    def get(self, dataset: str) -> Document:
        """By id, `NAME@VERSION` or `NAME`."""
        return self._client.request("GET", f"/v1/datasets/{dataset}")

    def list(self, name: str | None = None) -> Iterator[Document]:
        return self._client.pages("/v1/datasets", name=name)

    def preview(self, dataset: str, rows: int = 5) -> Documents:
        answer = self._client.request("GET", f"/v1/datasets/{dataset}/preview", params={"rows": rows})
        found: Documents = answer["rows"]
        return found


class Models(_Resource):
    def list(self) -> Documents:
        found: Documents = self._client.request("GET", "/v1/models")["data"]
        return found

    def get(self, model: str) -> Document:
        """By id, `NAME@VERSION` or `NAME`."""
        return self._client.request("GET", f"/v1/models/{model}")

    def upload(self, path: str | Path, name: str) -> Document:
        """Upload the folder that `save_pretrained()` wrote (config, tokenizer and *.safetensors; of a diffusers
        pipeline what it is trained with), or a zip of a model as code (docs/guides/own-model.md)."""
        source = Path(path)
        if source.is_file():
            field, paths = "code", {source.name: source}
        else:
            field, paths = "files", _model_files(source)

        def body(files: ExitStack) -> Document:
            parts = [(field, (name, files.enter_context(each.open("rb")))) for name, each in paths.items()]
            return {"data": {"name": name}, "files": parts}

        return self._client.upload("/v1/models", body, timeout_seconds=3600)


def _model_files(folder: Path) -> dict[str, Path]:
    """What of a saved model is sent, by the name that it is sent under."""
    if not (folder / PIPELINE).is_file():
        return {each.name: each for each in sorted(folder.iterdir()) if each.is_file()}
    found = [folder / PIPELINE, *(each for part in PIPELINE_PARTS for each in sorted((folder / part).glob("*")))]
    return {each.relative_to(folder).as_posix(): each for each in found if each.is_file()}


class Plans(_Resource):
    def create(self, file: Document, *, wait_seconds: float = 60, poll_seconds: float = 0.5) -> Document:
        """A dry run of a job file, or of an endpoint file (`kind: endpoint`), before anything is spent.

        Returns the plan with its `candidates` (of an endpoint: `options`), best first; the first is the chosen one.
        Raises SskaiError if nothing meets the constraints (`problem["reason"]` says which), TimeoutError if there is no
        answer within `wait_seconds`.
        """
        plan = self._client.request("POST", "/v1/plans", json=file)
        plan = _until(lambda: self.get(plan["id"]), _answered, wait_seconds, poll_seconds, first=plan)
        if plan["status"] == "refused":
            detail = f"{plan['detail']} {plan['advice']}".strip()
            raise _refused("Nothing meets the constraints", detail, reason=plan["reason"], plan_id=plan["id"])
        return plan

    def replay(
        self, plan_id: str, policy: str | None = None, *, wait_seconds: float = 60, poll_seconds: float = 0.5
    ) -> Document:
        """The stored decision made again from its inputs; with `policy` ("fastest", ...) as if that had decided.

        `equal` says whether it came out equal to the bit, `differences` how it did not; `stored_choice` and `choice`
        are candidates, or None for a refusal. Raises SskaiError for a plan that cannot be replayed or a policy that is
        unknown, TimeoutError if there is no answer within `wait_seconds`.
        """
        path = f"/v1/plans/{plan_id}/replay"
        replay = self._client.request("POST", path, json={"policy": policy})
        address = f"/v1/plans/{replay['plan_id']}/replays/{replay['id']}"
        look = partial(self._client.request, "GET", address)
        replay = _until(look, _answered, wait_seconds, poll_seconds, first=replay)
        if replay["status"] == "failed":
            raise _refused("The plan cannot be replayed", replay["problem"], replay_id=replay["id"])
        return replay

    def get(self, plan_id: str) -> Document:
        return self._client.request("GET", f"/v1/plans/{plan_id}")

    def list(self, job_id: str | None = None) -> Iterator[Document]:
        return self._client.pages("/v1/plans", job_id=job_id)


class Jobs(_Resource):
    def create(self, job: Document, *, idempotency_key: str | None = None) -> Document:
        """Submit a job file. With a key of yours, also a crash of your program submits it once."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._client.request("POST", "/v1/jobs", json=job, headers=headers)

    def get(self, job_id: str) -> Document:
        return self._client.request("GET", f"/v1/jobs/{job_id}")

    def list(self, state: str | None = None) -> Iterator[Document]:
        return self._client.pages("/v1/jobs", state=state)

    def cancel(self, job_id: str) -> Document:
        return self._client.request("POST", f"/v1/jobs/{job_id}/cancel")

    def wait(self, job_id: str, *, limit_seconds: float = 86_400, poll_seconds: float = 1.0) -> Document:
        """The job once it has ended, whichever way. TimeoutError after the limit."""
        return _until(lambda: self.get(job_id), lambda it: it["state"] in JOB_ENDS, limit_seconds, poll_seconds)

    def timeline(self, job_id: str) -> Document:
        """Its attempts, waits, events and prices in time, as `docs/guides/timeline.md` describes them."""
        return self._client.request("GET", f"/v1/jobs/{job_id}/timeline")

    def trace(self, job_id: str) -> Document:
        """The trace of its whole journey, as a tree of spans."""
        return self._client.request("GET", f"/v1/jobs/{job_id}/trace")


class Endpoints(_Resource):
    def create(
        self, name: str, model: str, *, kind: str = "adapter", sample_rate: float = 1.0, **more: Any
    ) -> Document:
        """Serve a model (`NAME@VERSION` or a foundation model's id) under a name. `more`: promotion, replicas, ..."""
        form = {"name": name, "model": model, "kind": kind, "sample_rate": sample_rate, **more}
        return self._client.request("POST", "/v1/endpoints", json=form)

    def change(self, endpoint_id: str, **change: Any) -> Document:
        """`canary="NAME@VERSION"`, `promote=True`, `roll_back=True` or `promotion={...}`."""
        return self._client.request("PATCH", f"/v1/endpoints/{endpoint_id}", json=change)

    def get(self, endpoint_id: str) -> Document:
        return self._client.request("GET", f"/v1/endpoints/{endpoint_id}")

    def list(self) -> Iterator[Document]:
        return self._client.pages("/v1/endpoints")

    def wait(self, endpoint_id: str, *, limit_seconds: float = 600, poll_seconds: float = 0.5) -> Document:
        """The endpoint once it is ready, failed or gone. TimeoutError after the limit."""
        ends = ("ready", "failed", "deleted")
        return _until(lambda: self.get(endpoint_id), lambda it: it["state"] in ends, limit_seconds, poll_seconds)

    def delete(self, endpoint_id: str) -> Document:
        return self._client.request("DELETE", f"/v1/endpoints/{endpoint_id}")


class Receipts(_Resource):
    def get(self, job_id: str) -> Document:
        return self._client.request("GET", f"/v1/receipts/{job_id}")

    def list(self) -> Iterator[Document]:
        return self._client.pages("/v1/receipts")

    def wait(self, job_id: str, *, limit_seconds: float = 60, poll_seconds: float = 0.5) -> Document:
        """The receipt, which comes a moment after the job's end. TimeoutError after the limit."""

        def look() -> Document:
            try:
                return self.get(job_id)
            except SskaiError as error:
                if error.status != 404:
                    raise
                return {}

        return _until(look, bool, limit_seconds, poll_seconds)


class Traces(_Resource):
    def get(self, trace_id: str) -> Document:
        return self._client.request("GET", f"/v1/traces/{trace_id}")


class Keys(_Resource):
    def create(self, name: str, tenant_id: str | None = None) -> Document:
        """A new key; `key` is in this answer only. Takes an administrator's client."""
        form = {"name": name} if tenant_id is None else {"name": name, "tenant_id": tenant_id}
        return self._client.request("POST", "/v1/keys", json=form)

    def list(self) -> Iterator[Document]:
        return self._client.pages("/v1/keys")

    def revoke(self, key_id: str) -> None:
        self._client.request("DELETE", f"/v1/keys/{key_id}")


def _with_key(method: str, options: Document) -> Document:
    """The same key at every try of one POST."""
    if method != "POST":
        return options
    headers = options.setdefault("headers", {})
    headers.setdefault("Idempotency-Key", secrets.token_hex(16))
    return options


def _answered(document: Document) -> bool:
    return bool(document["status"] != "pending")


def _refused(title: str, detail: str, **facts: Any) -> SskaiError:
    """What the gateway would have said, had the answer come while it waited."""
    return SskaiError({"title": title, "detail": detail, "status": 422, **facts})


def _problem(answer: httpx2.Response) -> Document:
    try:
        document = answer.json()
    except ValueError:
        document = None
    if isinstance(document, dict) and "title" in document:
        return document
    return {"title": f"HTTP {answer.status_code}", "detail": answer.text[:500], "status": answer.status_code}


def _until(
    look: Callable[[], Document],
    done: Callable[[Document], bool],
    limit_seconds: float,
    poll_seconds: float = 0.5,
    *,
    first: Document | None = None,
) -> Document:
    until = time.monotonic() + limit_seconds
    document = first if first is not None else look()
    while not done(document):
        if time.monotonic() > until:
            state = document.get("state") or document.get("status", "")
            raise TimeoutError(f"not within {limit_seconds:g} s: {document.get('id', '')} {state}")
        time.sleep(poll_seconds)
        document = look()
    return document


def _events(lines: Iterator[str]) -> Iterator[tuple[int, Event | None]]:
    """Positions out of a stream's lines, most of them with an event; heartbeats bring a position alone.

    Format: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
            continue
        if "id" in fields:
            position, event = int(fields["id"]), None
            if "data" in fields:
                cloudevent = json.loads(fields["data"])
                event = Event(position, fields.get("event", ""), cloudevent["partitionkey"], cloudevent)
            yield position, event
        fields = {}
