"""Replicas are processes that come and go; an answer does not notice. Real processes, killed, frozen and drained."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.inference.artifacts import Artifacts
from services.inference.domain import Endpoint
from services.inference.engine import (
    EngineFailedError,
    GrammarError,
    NotLoadedError,
    OverloadedError,
    Piece,
    PromptError,
    Sampling,
)
from services.inference.fleet import Fleet, Target
from services.inference.remote_engine import Patience, RemoteEngine, Replica
from services.inference.replica.words import Exit, Report
from services.inference.runner import Limits
from services.inference.transformers_engine import TransformersEngine
from sskai import telemetry
from sskai.local.objectstore import ObjectStore
from sskai.objects import Objects
from sskai.testing import wait_for
from tests.inference.artefacts import Published
from tests.inference.fake_engine import FakeEngine
from tests.inference.replicas import TOKEN, Home, ReplicaProcess

NUMBERS = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": 99999},
    "minItems": 60,
    "maxItems": 60,
}
PROMPT = "What is the capital of France?"
LONG = Sampling(120, temperature=0, min_tokens=120)
SAYINGS = {
    "greedy": LONG,
    "seeded": Sampling(120, seed=11, min_tokens=120, top_logprobs=2),
    "stopped": Sampling(120, temperature=0.9, seed=4, min_tokens=120, stop=("never said", "qqqqq")),
    "penalties": Sampling(120, seed=5, frequency_penalty=0.6, presence_penalty=0.5, min_tokens=120),
    "schema": Sampling(300, seed=7, schema=json.dumps(NUMBERS)),
}
PATIENCE = Patience(wait=60, connect=2, silence=3)


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    made = Home()
    yield made
    made.close()


class Pool:
    """Two replicas, always: what was killed is started anew."""

    def __init__(self, home: Home, environment: dict[str, str], folder: Path) -> None:
        self._home, self.environment, self._folder = home, environment, folder
        self.processes: list[ReplicaProcess] = []
        self._started = 0

    def start(self, **endpoint: object) -> ReplicaProcess:
        self._started += 1
        replica_id = f"rep_{self._started}"
        log = self._folder / f"{replica_id}.log"
        given = endpoint or {"base_uri": "builtin://tiny"}
        process = ReplicaProcess(replica_id, self._home, self.environment, log, given)
        self.processes.append(process)
        return process

    async def two(self) -> list[ReplicaProcess]:
        self.processes = [one for one in self.processes if one.process.poll() is None]
        while len(self.processes) < 2:
            self.start()

        async def ready() -> bool:
            return all(one.is_ready() for one in self.processes)

        await wait_for(ready, limit_seconds=120)
        return self.processes

    async def end(self, process: ReplicaProcess, limit_seconds: float = 60) -> int:
        """Its exit code."""
        await wait_for(lambda: process.process.poll() is not None, limit_seconds=limit_seconds)
        self._home.forget(process.replica_id)
        assert process.process.returncode is not None
        return process.process.returncode


@pytest.fixture(scope="module")
def pool(
    home: Home, models_dir: Path, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pool]:
    environment = {
        "SSKAI_MODELS_DIR": str(models_dir),
        "SSKAI_CACHE": str(tmp_path_factory.mktemp("cache")),
        "SSKAI_OBJECTS_URL": object_store.url,
        "SSKAI_OBJECTS_BUCKET": object_store.bucket,
        "SSKAI_OBJECTS_ACCESS_KEY": object_store.credentials.access_key,
        "SSKAI_OBJECTS_SECRET_KEY": object_store.credentials.secret_key,
    }
    made = Pool(home, environment, tmp_path_factory.mktemp("logs"))
    made.start()
    made.start()
    yield made
    for one in made.processes:
        one.process.kill()
        one.process.wait()


@pytest.fixture(scope="module")
def direct(tiny: Path) -> Iterator[TransformersEngine]:
    """The same weights in this process: what is to be said."""
    made = TransformersEngine(limits=Limits(4, 4, 256), max_context_tokens=4096, threads=1, device="cpu")
    made.load_base("tiny", tiny)
    yield made
    made.close()


@pytest.fixture
async def remote(home: Home) -> AsyncIterator[RemoteEngine]:
    home.failures.clear()
    engine = RemoteEngine(home, PATIENCE)
    yield engine
    engine.close()


async def encoded(remote: RemoteEngine) -> list[int]:
    return await asyncio.to_thread(remote.encode_chat, "end_1", [{"role": "user", "content": PROMPT}])


async def said(engine: TransformersEngine, tokens: list[int], how: Sampling) -> list[Piece]:
    (generation,) = engine.generate("tiny", None, tokens, how)
    async with asyncio.timeout(200):
        return [piece async for piece in generation.pieces()]


def whole(pieces: list[Piece]) -> tuple[str, tuple[int, ...], str | None, int, list[str]]:
    return (
        "".join(piece.text for piece in pieces),
        tuple(token for piece in pieces for token in piece.tokens),
        pieces[-1].finish_reason,
        pieces[-1].output_tokens,
        [one.text for piece in pieces for one in piece.logprobs],
    )


async def interrupted(remote: RemoteEngine, tokens: list[int], how: Sampling, interrupt: object) -> list[Piece]:
    """An answer during which `interrupt(replica)` happens to the replica that says it."""
    (generation,) = remote.generate("end_1", None, tokens, how)
    pieces: list[Piece] = []
    async with asyncio.timeout(200):
        async for piece in generation.pieces():
            pieces.append(piece)
            if len(pieces) == 5:
                (at,) = remote._busy
                assert callable(interrupt)
                interrupt(at)
    return pieces


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(how, marks=() if name in ("greedy", "schema") else pytest.mark.heavy)
        for name, how in SAYINGS.items()
    ],
    ids=SAYINGS,
)
async def test_a_replica_killed_in_mid_answer_changes_nothing(
    pool: Pool, home: Home, remote: RemoteEngine, direct: TransformersEngine, how: Sampling
) -> None:
    processes = {one.replica_id: one for one in await pool.two()}
    tokens = await encoded(remote)
    expected = whole(await said(direct, tokens, how))

    def kill(replica_id: str) -> None:
        processes[replica_id].process.kill()  # still called ready, until somebody notices

    pieces = await interrupted(remote, tokens, how, kill)
    assert whole(pieces) == expected
    (victim,) = home.failures
    processes[victim].kill()


async def test_an_answer_that_outlives_a_replica_has_a_span_at_each(
    pool: Pool, home: Home, remote: RemoteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", lambda: provider.get_tracer("test"))
    processes = {one.replica_id: one for one in await pool.two()}
    tokens = await encoded(remote)
    with telemetry.tracer().start_as_current_span("chat") as asked:
        await interrupted(remote, tokens, LONG, lambda at: processes[at].process.kill())
    (victim,) = home.failures
    processes[victim].kill()
    first, second = [span for span in exporter.get_finished_spans() if span.name == "ask replica"]
    for span in (first, second):
        assert span.parent is not None
        assert span.parent.span_id == asked.get_span_context().span_id
    assert (dict(first.attributes or {})["sskai.replica"], first.status.is_ok) == (victim, False)
    said_tokens = dict(second.attributes or {})["sskai.said_tokens"]
    assert isinstance(said_tokens, int)
    assert 0 < said_tokens < LONG.max_tokens

    def generated() -> list[Any]:
        assert second.context is not None
        parent = second.context.span_id.to_bytes(8)
        return [span for span in home.spans if span.name == "generate" and span.parent_span_id == parent]

    found: list[Any] = await wait_for(generated)
    attributes = {one.key: one.value for one in found[0].attributes}
    assert attributes["sskai.endpoint"].string_value == "end_1"
    assert attributes["gen_ai.usage.output_tokens"].int_value == LONG.max_tokens - said_tokens
    assert [event.name for event in found[0].events] == ["first token"]


async def test_a_frozen_replica_is_left_when_it_has_been_silent_for_too_long(
    pool: Pool, home: Home, remote: RemoteEngine, direct: TransformersEngine
) -> None:
    processes = {one.replica_id: one for one in await pool.two()}
    tokens = await encoded(remote)
    expected = whole(await said(direct, tokens, LONG))
    pieces = await interrupted(remote, tokens, LONG, lambda at: processes[at].send(signal.SIGSTOP))
    assert whole(pieces) == expected
    (frozen,) = home.failures
    processes[frozen].send(signal.SIGCONT)
    # It notices that nobody listens any more.
    await wait_for(lambda: (report := home.last(frozen)) is not None and report.active == 0, limit_seconds=30)


async def test_a_drained_replica_finishes_its_answers_and_takes_no_new_ones(
    pool: Pool, home: Home, remote: RemoteEngine, direct: TransformersEngine
) -> None:
    processes = {one.replica_id: one for one in await pool.two()}
    tokens = await encoded(remote)
    expected = whole(await said(direct, tokens, LONG))
    drained: list[str] = []

    def drain(at: str) -> None:
        drained.append(at)
        processes[at].send(signal.SIGTERM)

    pieces = await interrupted(remote, tokens, LONG, drain)
    assert whole(pieces) == expected
    assert home.failures == []
    assert whole(await said_remotely(remote, tokens, LONG)) == expected
    states = [report.state for report in home.reports[drained[0]]]
    assert states[0] == "ready"
    assert states[-1] == "draining"
    assert await pool.end(processes[drained[0]]) == Exit.DRAINED


@pytest.mark.heavy
async def test_what_a_drain_has_no_time_for_is_said_by_another_replica(
    pool: Pool, home: Home, remote: RemoteEngine, direct: TransformersEngine
) -> None:
    first, _ = await pool.two()
    pool.environment["SSKAI_REPLICA_DRAIN_SECONDS"] = "0.1"
    hasty = pool.start()
    del pool.environment["SSKAI_REPLICA_DRAIN_SECONDS"]
    await wait_for(hasty.is_ready, limit_seconds=120)
    tokens = await encoded(remote)
    longer = replace(LONG, max_tokens=400, min_tokens=400)
    expected = whole(await said(direct, tokens, longer))
    known = Only(home, hasty, first)
    only = RemoteEngine(known, PATIENCE)
    pieces = await interrupted(only, tokens, longer, lambda _at: hasty.send(signal.SIGTERM))
    assert whole(pieces) == expected
    assert known.failures == [hasty.replica_id]
    assert await pool.end(hasty) == Exit.DRAINED
    only.close()


class Only:
    """One replica, and another one as soon as that has failed."""

    def __init__(self, home: Home, first: ReplicaProcess, second: ReplicaProcess) -> None:
        self._home, self._ids = home, [first.replica_id, second.replica_id]
        self.failures: list[str] = []

    def ready(self, endpoint_id: str) -> list[Replica]:
        return [one for one in self._home.ready(endpoint_id) if one.replica_id == self._ids[0]]

    def report_failure(self, replica_id: str) -> None:
        self.failures.append(replica_id)
        self._ids = [one for one in self._ids if one != replica_id] or self._ids


async def said_remotely(remote: RemoteEngine, tokens: list[int], how: Sampling) -> list[Piece]:
    (generation,) = remote.generate("end_1", None, tokens, how)
    async with asyncio.timeout(200):
        return [piece async for piece in generation.pieces()]


async def test_whoever_leaves_gives_back_the_place(pool: Pool, home: Home, remote: RemoteEngine) -> None:
    await pool.two()
    tokens = await encoded(remote)
    for generation in remote.generate("end_1", None, tokens, LONG, copies=4):
        async for _ in generation.pieces():
            break
    await wait_for(lambda: remote.occupancy().active == 0)
    await wait_for(lambda: all(one.active == 0 for one in reports_of(home)), limit_seconds=20)


def reports_of(home: Home) -> list[Report]:
    return [reports[-1] for reports in home.reports.values()]


async def test_answers_are_spread_and_more_than_find_room_are_refused(
    pool: Pool, home: Home, remote: RemoteEngine
) -> None:
    await pool.two()
    tokens = await encoded(remote)
    generations = remote.generate("end_1", None, tokens, LONG, copies=8)
    await wait_for(lambda: remote.occupancy().active == 8)
    assert set(remote._busy.values()) == {4}
    with pytest.raises(OverloadedError):
        remote.generate("end_1", None, tokens, LONG, copies=9)
    for generation in generations:
        generation.cancel()
    await wait_for(lambda: remote.occupancy().active == 0)
    assert home.failures == []


async def test_copies_have_seeds_that_count_upwards_and_an_unseeded_answer_has_one(
    pool: Pool, remote: RemoteEngine, direct: TransformersEngine
) -> None:
    await pool.two()
    tokens = await encoded(remote)
    how = Sampling(20, seed=40)
    generations = remote.generate("end_1", None, tokens, how, copies=2)
    answers = [whole([piece async for piece in one.pieces()]) for one in generations]
    expected = [whole(await said(direct, tokens, Sampling(20, seed=seed))) for seed in (40, 41)]
    assert answers == expected
    unseeded = [whole(await said_remotely(remote, tokens, Sampling(20))) for _ in range(2)]
    assert unseeded[0] != unseeded[1]


async def test_the_rest_of_the_engine_is_the_same_elsewhere(
    pool: Pool, remote: RemoteEngine, direct: TransformersEngine
) -> None:
    await pool.two()
    tokens = await encoded(remote)
    assert tokens == direct.encode_chat("tiny", [{"role": "user", "content": PROMPT}])
    assert await asyncio.to_thread(remote.encode_text, "end_1", PROMPT) == direct.encode_text("tiny", PROMPT)
    assert remote.context_tokens("end_1") == direct.context_tokens("tiny")
    assert remote.labels("end_1") == ()
    await asyncio.to_thread(remote.check_schema, "end_1", json.dumps(NUMBERS))
    with pytest.raises(GrammarError):
        await asyncio.to_thread(remote.check_schema, "end_1", '{"type": "what"}')
    with pytest.raises(PromptError, match="classifier"):
        await asyncio.to_thread(remote.classify, "end_1", ["text"])
    for mine, theirs in zip(
        remote.embed("end_1", None, [tokens, tokens[:3]]), direct.embed("tiny", None, [tokens, tokens[:3]]), strict=True
    ):
        one, other = [[piece async for piece in generation.pieces()] for generation in (mine, theirs)]
        assert one[0].vector == pytest.approx(other[0].vector, abs=1e-5)


async def test_nobody_speaks_to_a_replica_without_its_token(pool: Pool, home: Home) -> None:
    await pool.two()
    url = home.ready("end_1")[0].url
    async with httpx2.AsyncClient() as client:
        for headers in ({}, {"authorization": "Bearer guess"}):
            for path in ("generate", "encode", "embed", "classify", "schema"):
                answer = await client.post(f"{url}/engine/{path}", json={}, headers=headers)
                assert answer.status_code == 401
        known = {"authorization": f"Bearer {TOKEN}"}
        for body in (b"{", b"[]", b"{}", b'{"tokens": ["a"], "sampling": {}, "said": {}}'):
            answer = await client.post(f"{url}/engine/generate", content=body, headers=known)
            assert answer.status_code == 400
        assert (await client.get(f"{url}/readyz")).status_code == 200


async def test_an_endpoint_with_ready_replicas_is_asked_there(home: Home, models_dir: Path, tmp_path: Path) -> None:
    artifacts = Artifacts(Objects("http://127.0.0.1:9", "bucket", "key", "secret"), models_dir, tmp_path, 10**9)
    somewhere = Replica("rep_x", "http://127.0.0.1:9", TOKEN)
    for ready in ([], [somewhere]):
        remote = RemoteEngine(Nobody(ready))
        fleet = Fleet(FakeEngine, artifacts, remote)
        assert fleet.is_loaded("end_1") == bool(ready)
        endpoint = Endpoint("end_1", "t", "name", "spot", "m", 1, "tiny", "builtin://tiny", "", 0, datetime.now(UTC))
        if ready:
            assert fleet.target(endpoint) == Target(remote, "end_1", None)
        else:
            with pytest.raises(NotLoadedError):
                fleet.target(endpoint)
        fleet.close()


async def test_replicas_that_do_not_answer_become_one_error() -> None:
    class Dead:
        failures = 0

        def ready(self, _endpoint_id: str) -> list[Replica]:
            return [Replica(f"rep_dead_{number}", "http://127.0.0.1:9", TOKEN) for number in range(9)]

        def report_failure(self, _replica_id: str) -> None:
            self.failures += 1

    dead = Dead()
    engine = RemoteEngine(dead, Patience(tries=3))
    (generation,) = engine.generate("end_1", None, [1, 2], LONG)
    with pytest.raises(EngineFailedError, match="3 replicas in a row failed"):
        await anext(generation.pieces())
    assert dead.failures == 3
    with pytest.raises(EngineFailedError, match="3 replicas in a row failed"):
        await asyncio.to_thread(engine.encode_text, "end_1", "Hello")
    engine.close()

    home_alone = RemoteEngine(Nobody(), Patience(wait=0.1))
    with pytest.raises(NotLoadedError):
        home_alone.generate("end_1", None, [1, 2], LONG)
    assert not home_alone.is_ready("end_1")
    home_alone.close()


class Nobody:
    def __init__(self, ready: Sequence[Replica] = ()) -> None:
        self._ready = ready

    def ready(self, _endpoint_id: str) -> Sequence[Replica]:
        return self._ready

    def report_failure(self, _replica_id: str) -> None:
        raise AssertionError


async def test_a_replica_says_why_it_cannot_load(
    pool: Pool, home: Home, published: dict[str, Published], tmp_path: Path
) -> None:
    other = {"base_uri": "builtin://tiny", "artifact_uri": published["cats"].uri, "manifest_sha256": "0" * 64}
    cases = [(other, Exit.UNUSABLE, "unusable-weights"), ({"base_uri": "builtin://no"}, Exit.UNUSABLE, "not-found")]
    for endpoint, code, reason in cases:
        process = pool.start(**endpoint)
        await wait_for(lambda process=process: home.last(process.replica_id) is not None, limit_seconds=60)
        report = home.last(process.replica_id)
        assert report is not None
        assert (report.state, report.reason) == ("failed", reason)
        assert report.detail
        assert await pool.end(process) == code
    process = ReplicaProcess("rep_odd", home, pool.environment, tmp_path / "log", {"engine": "wishful"})
    assert await pool.end(process) == Exit.MISCONFIGURED
    assert "replica_endpoint.engine" in process.log.read_text()


@pytest.mark.heavy
async def test_a_replica_with_an_adapter_says_what_the_adapter_says(
    pool: Pool, home: Home, published: dict[str, Published], adapters: dict[str, Path], direct: TransformersEngine
) -> None:
    cats = published["cats"]
    process = pool.start(base_uri="builtin://tiny", artifact_uri=cats.uri, manifest_sha256=cats.manifest_sha256)
    await wait_for(process.is_ready, limit_seconds=120)
    engine = RemoteEngine(Only(home, process, process), PATIENCE)
    direct.attach_adapter("tiny", "cats", adapters["cats"])
    tokens = await encoded(engine)
    (generation,) = direct.generate("tiny", "cats", tokens, Sampling(30, temperature=0))
    expected = whole([piece async for piece in generation.pieces()])
    assert whole(await said_remotely(engine, tokens, Sampling(30, temperature=0))) == expected
    engine.close()
    # Nobody wants it any more: it ends by itself.
    home.wanted = False
    try:
        assert await pool.end(process) == Exit.DRAINED
    finally:
        home.wanted = True
