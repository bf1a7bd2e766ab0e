"""An engine that is elsewhere: the ready replicas of an endpoint, asked over HTTP.

An answer whose replica fails goes on at another one from the tokens that were told, so its reader notices nothing but a
pause (docs/decisions/0017). Its names are endpoints: `base` is an endpoint's id, and there are no adapters.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections import Counter
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import httpx2
import structlog
from opentelemetry.trace import SpanKind

from services.inference.engine import (
    NOTHING_SAID,
    DrawsNothing,
    EngineError,
    EngineFailedError,
    Generation,
    NotLoadedError,
    Occupancy,
    OverloadedError,
    Piece,
    PromptError,
    Said,
    Sampling,
)
from services.inference.pictures import Pictures
from services.inference.replica import wire
from services.inference.replica.wire import DrainingError
from sskai import telemetry

log = structlog.get_logger()

LOOK_AGAIN_SECONDS = 0.05
MOST_REMEMBERED = 10_000  # replicas whose last choice and failure are known
# Until a replica has told how many it takes.
PRESUMED_CAPACITY = 64


@dataclass(frozen=True, slots=True)
class Replica:
    """Where to ask, and what proves who asks."""

    replica_id: str
    url: str
    token: str


class Replicas(Protocol):
    """Who can be asked, by the control plane's word. Both may be called from any thread, and do not block."""

    def ready(self, endpoint_id: str) -> Sequence[Replica]: ...

    def report_failure(self, replica_id: str) -> None:
        """It did not answer, or not sensibly."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits, in seconds. `tries`: in a row that gave nothing new. `wait`: for a replica, when none is left.

    `silence`: without a sign of life, which a replica gives every second. `stall`: signs of life, but no token.
    `avoid`: one that failed is left alone so long, however ready it is called.
    """

    tries: int = 4
    wait: float = 30.0
    connect: float = 3.0
    silence: float = 6.0
    stall: float = 120.0
    answer: float = 60.0  # what does not stream
    avoid: float = 3.0


@dataclass(frozen=True, slots=True)
class Model:
    """What a replica told of its own, which all of an endpoint's have."""

    told_by: str
    context_tokens: int
    labels: tuple[str, ...]
    capacity: int


class RemoteEngine(DrawsNothing):
    """See `engine.AnsweringEngine`."""

    def __init__(self, replicas: Replicas, patience: Patience = Patience()) -> None:
        self._replicas = replicas
        self._patience = patience
        self._busy: Counter[str] = Counter()
        self._chosen_at: dict[str, float] = {}
        self._failed_at: dict[str, float] = {}
        self._models: dict[str, Model] = {}
        self._asking = httpx2.Client(timeout=httpx2.Timeout(patience.answer, connect=patience.connect))
        self._streaming: httpx2.AsyncClient | None = None
        self._answers: set[_Answer] = set()

    def is_ready(self, endpoint_id: str) -> bool:
        return bool(self._replicas.ready(endpoint_id))

    def encode_chat(self, base: str, messages: Sequence[dict[str, str]]) -> list[int]:
        return self._encode(base, {"messages": list(messages)})

    def encode_text(self, base: str, text: str) -> list[int]:
        return self._encode(base, {"text": text})

    def _encode(self, base: str, body: dict[str, Any]) -> list[int]:
        self._model(base)  # so that `context_tokens` need not ask
        tokens: list[int] = self._ask(base, "/engine/encode", body)["tokens"]
        return tokens

    def context_tokens(self, base: str) -> int:
        return self._model(base).context_tokens

    def labels(self, base: str) -> tuple[str, ...]:
        return self._model(base).labels

    def check_schema(self, base: str, schema: str) -> None:
        self._ask(base, "/engine/schema", {"schema": schema})

    def classify(self, base: str, texts: Sequence[str]) -> list[list[float]]:
        rows: list[list[float]] = self._ask(base, "/engine/classify", {"texts": list(texts)})["rows"]
        return rows

    def picture_shape(self, base: str) -> None:
        self._model(base)  # no replica has one (replica/loaded.py)

    def classify_pictures(self, base: str, pictures: Pictures) -> list[list[float]]:  # noqa: ARG002
        self._model(base)
        raise PromptError("this model is no classifier of pictures")

    def generate(
        self,
        base: str,
        adapter: str | None,
        tokens: Sequence[int],
        sampling: Sampling,
        copies: int = 1,
        *,
        said: Said = NOTHING_SAID,
    ) -> list[Generation]:
        self._admit(base, adapter, copies)
        # Drawn here, so that whoever goes on with the answer throws the same dice.
        seed = secrets.randbits(62) if sampling.seed is None else sampling.seed
        answers = []
        for copy in range(copies):
            answer = _Answer()
            how = replace(sampling, seed=seed + copy)
            answer.begin(self._answer(base, list(tokens), how, said, answer), self._answers)
            answers.append(answer)
        return list(answers)

    def embed(self, base: str, adapter: str | None, texts: Sequence[Sequence[int]]) -> list[Generation]:
        self._admit(base, adapter, len(texts))
        answers = [_Answer() for _ in texts]
        answers[0].begin(self._embed(base, [list(text) for text in texts], answers), self._answers)
        return list(answers)

    def occupancy(self) -> Occupancy:
        """What this process has under way; the replicas' own queues are told in their reports."""
        return Occupancy(self._busy.total(), 0)

    def close(self) -> None:
        for answer in list(self._answers):
            answer.cancel()
        self._asking.close()

    def _admit(self, endpoint_id: str, adapter: str | None, copies: int) -> None:
        """Raises NotLoadedError, OverloadedError."""
        if adapter is not None:
            raise NotLoadedError("an endpoint of replicas has no adapters beside its own")
        ready = self._replicas.ready(endpoint_id)
        if not ready:
            raise NotLoadedError("the endpoint has no replica that is ready")
        model = self._models.get(endpoint_id)
        places = len(ready) * (model.capacity if model else PRESUMED_CAPACITY)
        under_way = sum(self._busy[one.replica_id] for one in ready)
        if under_way + copies > places:
            raise OverloadedError(under_way)

    async def _answer(
        self, endpoint_id: str, tokens: list[int], sampling: Sampling, said: Said, answer: _Answer
    ) -> None:
        told, logprob_sum, tries = list(said.tokens), said.logprob_sum, 0
        while True:
            try:
                replica = await self._choose(endpoint_id)
            except NotLoadedError as error:
                answer.feed(error)
                return
            body = wire.generate_body(tokens, sampling, Said(tuple(told), logprob_sum))
            try:
                with self._at(replica), _asking(replica, len(told)) as headers:
                    async with aclosing(self._pieces(replica, body, headers)) as pieces:
                        async for piece in pieces:
                            tries = 0
                            told += piece.tokens
                            logprob_sum = piece.mean_logprob * piece.output_tokens
                            answer.feed(piece)
                            if piece.finish_reason is not None:
                                return
                raise EngineFailedError("the answer broke off")
            except ELSEWHERE as error:
                tries += 1
                if not self._goes_on(error, replica, tries):
                    answer.feed(_last_word(error, tries))
                    return
                if isinstance(error, OverloadedError):
                    await asyncio.sleep(tries * LOOK_AGAIN_SECONDS)
            except EngineError as error:
                answer.feed(error)
                return

    async def _embed(self, endpoint_id: str, texts: list[list[int]], answers: list[_Answer]) -> None:
        try:
            found = await asyncio.to_thread(self._ask, endpoint_id, "/engine/embed", {"texts": texts})
            for answer, vector in zip(answers, found["vectors"], strict=True):
                answer.feed(Piece("", 0, "stop", vector=tuple(vector)))
        except EngineError as error:
            for answer in answers:
                answer.feed(error)

    async def _pieces(
        self, replica: Replica, body: dict[str, Any], headers: dict[str, str]
    ) -> AsyncGenerator[Piece, None]:
        """One attempt at one replica. A line that the connection's end has cut counts for nothing."""
        stall_at = time.monotonic() + self._patience.stall
        async with self._stream_client().stream(
            "POST", f"{replica.url}/engine/generate", json=body, headers=headers
        ) as response:
            if response.status_code != httpx2.codes.OK:
                raise wire.error_of(_json(await response.aread()))
            rest = b""
            async for chunk in response.aiter_raw():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if not line:
                        if time.monotonic() > stall_at:
                            raise EngineFailedError("the replica lives, but tells no tokens")
                        continue
                    try:
                        piece = wire.piece_of(line)
                    except ValueError as error:
                        raise EngineFailedError(f"the replica speaks otherwise: {error}") from error
                    if isinstance(piece, EngineError):
                        raise piece
                    stall_at = time.monotonic() + self._patience.stall
                    yield piece

    def _stream_client(self) -> httpx2.AsyncClient:
        """Made in the event loop that uses it."""
        if self._streaming is None:
            patience = self._patience
            timeout = httpx2.Timeout(patience.silence, connect=patience.connect, pool=None)
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
            self._streaming = httpx2.AsyncClient(timeout=timeout, limits=limits)
        return self._streaming

    async def _choose(self, endpoint_id: str) -> Replica:
        """The one with the fewest answers under way; waits for one if there is none. Raises NotLoadedError."""
        until = time.monotonic() + self._patience.wait
        while (found := self._free(endpoint_id)) is None:
            if time.monotonic() > until:
                raise NotLoadedError("no replica is left to go on with this answer")
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return found

    def _free(self, endpoint_id: str) -> Replica | None:
        since = time.monotonic() - self._patience.avoid
        usable = [
            one for one in self._replicas.ready(endpoint_id) if self._failed_at.get(one.replica_id, since) <= since
        ]
        if not usable:
            return None
        chosen = min(usable, key=lambda one: (self._busy[one.replica_id], self._chosen_at.get(one.replica_id, 0.0)))
        _note_now(self._chosen_at, chosen.replica_id)
        return chosen

    @contextmanager
    def _at(self, replica: Replica) -> Iterator[None]:
        self._busy[replica.replica_id] += 1
        try:
            yield
        finally:
            self._busy[replica.replica_id] -= 1
            if not self._busy[replica.replica_id]:
                del self._busy[replica.replica_id]

    def _goes_on(self, error: Exception, replica: Replica, tries: int) -> bool:
        """Take note of a failure; whether another try is worth it."""
        if not isinstance(error, OverloadedError):
            _note_now(self._failed_at, replica.replica_id)
        if not isinstance(error, OverloadedError | DrainingError):
            log.warning("a replica failed", replica_id=replica.replica_id, error=repr(error), tries=tries)
            self._replicas.report_failure(replica.replica_id)
        return tries < self._patience.tries

    def _model(self, endpoint_id: str) -> Model:
        """Blocks, unless a replica that is ready still has told it. Raises NotLoadedError."""
        known = self._models.get(endpoint_id)
        if known and known.told_by in {one.replica_id for one in self._replicas.ready(endpoint_id)}:
            return known
        value, replica = self._asked(endpoint_id, "/engine/model", None)
        model = Model(replica.replica_id, value["context_tokens"], tuple(value["labels"]), value["capacity"])
        self._models[endpoint_id] = model
        return model

    def _ask(self, endpoint_id: str, path: str, body: dict[str, Any]) -> Any:
        return self._asked(endpoint_id, path, body)[0]

    def _asked(self, endpoint_id: str, path: str, body: dict[str, Any] | None) -> tuple[Any, Replica]:
        """A question's answer, and whose; blocks. Asked again elsewhere when a replica fails. Raises EngineError."""
        tries = 0
        while True:
            replica = self._free(endpoint_id)
            if replica is None:
                raise NotLoadedError("the endpoint has no replica that is ready")
            tries += 1
            method = "GET" if body is None else "POST"
            try:
                answer = self._asking.request(method, replica.url + path, json=body, headers=_headers(replica))
                if answer.status_code == httpx2.codes.OK:
                    return answer.json(), replica
                raise wire.error_of(_json(answer.content))
            except ELSEWHERE as error:
                if not self._goes_on(error, replica, tries):
                    raise _last_word(error, tries) from error


class _Answer(Generation):
    """Who leaves early closes the connection at once, and the replica gives the place to somebody else."""

    def __init__(self) -> None:
        super().__init__()
        self._task: asyncio.Task[None] | None = None

    def begin(self, work: Coroutine[Any, Any, None], under_way: set[_Answer]) -> None:
        self._task = asyncio.create_task(work)
        under_way.add(self)
        self._task.add_done_callback(lambda task: self._ended(task, under_way))

    def _ended(self, task: asyncio.Task[None], under_way: set[_Answer]) -> None:
        under_way.discard(self)
        if task.cancelled():
            self.feed(EngineFailedError("the service is stopping; try again"))
        elif error := task.exception():
            log.error("an answer failed", exc_info=error)
            self.feed(EngineFailedError(f"the answer failed: {type(error).__name__}"))

    def cancel(self) -> None:
        super().cancel()
        if self._task is not None and not self._task.done():
            with suppress(RuntimeError):  # the event loop is gone, and the task with it
                self._loop.call_soon_threadsafe(self._task.cancel)


# What another replica may do better. Not here: what the request itself brings about.
ELSEWHERE = (EngineFailedError, DrainingError, OverloadedError, httpx2.TransportError)


@contextmanager
def _asking(replica: Replica, said_tokens: int) -> Iterator[dict[str, str]]:
    """The headers of a question to a replica, which is a span: an answer that outlives a replica has several."""
    attributes: dict[str, str | int] = {"sskai.replica": replica.replica_id, "sskai.said_tokens": said_tokens}
    with telemetry.span_beside("ask replica", attributes, SpanKind.CLIENT) as span:
        yield _headers(replica) | telemetry.carried_by(span)


def _headers(replica: Replica) -> dict[str, str]:
    return {"authorization": f"Bearer {replica.token}"}


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body[:200].decode(errors="replace")


def _last_word(error: Exception, tries: int) -> EngineError:
    if isinstance(error, OverloadedError):
        return error
    return EngineFailedError(f"{tries} replicas in a row failed; the last one: {error!r}"[:500])


def _note_now(moments: dict[str, float], replica_id: str) -> None:
    """Replicas come and go for months: the oldest moment makes room."""
    moments.pop(replica_id, None)
    moments[replica_id] = time.monotonic()
    if len(moments) > MOST_REMEMBERED:
        del moments[next(iter(moments))]
