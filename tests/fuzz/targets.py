"""What is fuzzed: bytes from outside go into the real code, and only the errors that it promises may come out.

A target is `bytes -> None`. It returns for what is accepted and for what is refused as documented; anything else that
is raised is a finding. What is accepted must hold as well: it can be stored, told and read again.
"""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import safetensors
from google.protobuf.message import Message

from services.gateway import endpointfile, intake, jobfile, jobspec, usercode, weights
from services.gateway.datareport import Summary
from services.gateway.datasets import Scan
from services.gateway.rowforms import RejectedError
from services.gateway.values import Dataset, Model
from services.monitor import aws_interruptions, interruptions
from services.monitor.sources import LocalCloud, SourceAwayError
from sskai import archives, contract, requirements
from sskai.bus import Incoming, dead_letter_headers
from sskai.events import v1 as events
from tests.fuzz.gateway import ask

NOW = datetime(2026, 12, 1, 9, tzinfo=UTC)
MODEL = Model("tiny", "tiny", 1, "builtin", "", "s3://b/m", "", "{}", available=True, created_at=NOW)
DATASET = Dataset("dataset_1", "tenant_1", "support", 1, "s3://b/d", "messages", 9, 900, "0" * 64, 90, NOW)
FEED_LINES = 1 << 12  # a dataset is fed in pieces of so many bytes and in one


def headers_and_value(data: bytes) -> tuple[list[tuple[str, bytes]], bytes]:
    """A record or a request as the corpus keeps it: `name: value` a line, an empty line, the rest."""
    head, _, value = data.partition(b"\n\n")
    pairs = [line.partition(b": ") for line in head.split(b"\n")]
    return [(name.decode("latin-1"), text) for name, _, text in pairs], value


def _same(message: Message) -> bytes:
    """A message's bytes without what this version does not know: NaN differs from itself, its bytes do not."""
    known = type(message)()
    known.CopyFrom(message)
    known.DiscardUnknownFields()
    return known.SerializeToString(deterministic=True)


def _storable(text: str) -> None:
    """PostgreSQL takes it, and so does UTF-8."""
    assert "\0" not in text
    text.encode()


def _decoded(value: bytes, headers: list[tuple[str, bytes]]) -> None:
    try:
        envelope = contract.decode(value, headers)
    except contract.UnknownTypeError:
        return
    except contract.UndecodableError as error:
        dead_letter_headers(Incoming("t", 0, 0, None, value, headers), "undecodable", str(error), "fuzz")
        return
    for text in (envelope.id, envelope.source, envelope.key, envelope.traceparent or ""):
        _storable(text)
    record = contract.encode(envelope)
    again = contract.decode(record.value, record.headers)
    assert (again.id, again.source, again.time, again.traceparent) == (
        envelope.id,
        envelope.source,
        envelope.time,
        envelope.traceparent,
    )
    assert _same(again.message) == _same(envelope.message)


def event(data: bytes) -> None:
    """A Kafka record: binary mode with protobuf or JSON, or structured JSON."""
    headers, value = headers_and_value(data)
    _decoded(value, headers)


def cloudevent(data: bytes) -> None:
    """A CloudEvent in JSON, as it comes from whoever tells events by hand."""
    _decoded(data, [("content-type", contract.CLOUDEVENT_JSON.encode())])
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    try:
        contract.from_cloudevent(document)
    except (contract.UnknownTypeError, contract.UndecodableError):
        return


def _refused(error: RejectedError) -> None:
    """A refusal can be told: in an answer, as an event, and in a row of the database."""
    for text in (error.column, error.reason):
        _storable(text)
    rejected = intake.rejected("tenant_1", "support", error, NOW)
    contract.encode(contract.Envelope(rejected, "1", "gateway", NOW))
    json.dumps(intake.where(error.row, error.column, error.reason), ensure_ascii=False).encode()


def _scanned(data: bytes, piece_bytes: int) -> Summary | RejectedError:
    kept = bytearray()
    scan = Scan(kept.extend)
    try:
        for at in range(0, len(data), piece_bytes):
            scan.feed(data[at : at + piece_bytes])
        summary = scan.summary()
    except RejectedError as error:
        return error
    assert len(kept) == summary.bytes
    return summary


def dataset_jsonl(data: bytes) -> None:
    """JSON Lines: in whatever pieces they come, the answer is the same."""
    whole, pieces = _scanned(data, max(len(data), 1)), _scanned(data, len(data) % FEED_LINES + 1)
    if isinstance(whole, RejectedError):
        assert isinstance(pieces, RejectedError)
        assert str(whole) == str(pieces)
        _refused(whole)
    else:
        assert whole == pieces
        json.dumps(whole.report, allow_nan=False)


def _dataset(kind: str, data: bytes) -> None:
    spool = io.BytesIO()
    try:
        summary = intake.READERS[kind](io.BytesIO(data), spool)
    except RejectedError as error:
        _refused(error)
        return
    json.dumps(summary.report, allow_nan=False)
    if kind != intake.IMAGES:  # what was made of it is itself a dataset
        made = _scanned(spool.getvalue(), 1 << 20)
        assert isinstance(made, Summary), made
        assert (made.rows, made.bytes, made.sha256) == (summary.rows, summary.bytes, summary.sha256)


def dataset_csv(data: bytes) -> None:
    _dataset(intake.CSV, data)


def dataset_parquet(data: bytes) -> None:
    _dataset(intake.PARQUET, data)


def dataset_zip(data: bytes) -> None:
    """A zip of images."""
    _dataset(intake.IMAGES, data)


def model_safetensors(data: bytes) -> None:
    """Weights: what is taken can be read by the library that the trainer reads it with."""
    try:
        weights.check_file("model.safetensors", io.BytesIO(data), len(data))
    except weights.RefusedError as error:
        _storable(error.reason)
        return
    safetensors.deserialize(data)


def model_config(data: bytes) -> None:
    """config.json, which travels in every job of the model."""
    try:
        weights.check_file("config.json", io.BytesIO(data), len(data))
        config = weights.read_config(io.BytesIO(data), len(data))
    except weights.RefusedError as error:
        _storable(error.reason)
        return
    events.ModelRef(config_json=config).SerializeToString()
    model = Model("m", "m", 1, "uploaded", "", "", "", config, available=True, created_at=NOW)
    json.dumps([model.task, model.context_tokens], ensure_ascii=False).encode()


def model_text(data: bytes) -> None:
    """merges.txt: any text, and no pickle of whatever protocol."""
    try:
        weights.check_file("merges.txt", io.BytesIO(data), len(data))
    except weights.RefusedError as error:
        _storable(error.reason)


def model_code(data: bytes) -> None:
    """A model as code: what is taken unpacks to what was checked, within its folder."""
    file = io.BytesIO(data)
    try:
        usercode.check(file)
    except weights.RefusedError as error:
        _storable(f"{error.file} {error.reason}")
        return
    with tempfile.TemporaryDirectory(prefix="sskai-fuzz-") as above:
        folder = Path(above) / "code"
        folder.mkdir()
        archives.unpack(file, folder)
        found = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        assert found == archives.check(file)
        assert [path.name for path in Path(above).iterdir()] == ["code"]


def requirements_txt(data: bytes) -> None:
    try:
        for each in requirements.parse(data.decode(errors="replace")):
            assert not str(each).startswith("-")
    except requirements.RequirementError as error:
        _storable(str(error))


def _form(data: bytes, kind: type[jobfile.Form]) -> Any:
    """The form that a body is, as FastAPI makes it; None: it is refused."""
    try:
        return kind.model_validate(json.loads(data))
    except (ValueError, RecursionError):  # a ValidationError is one
        return None


def job_file(data: bytes) -> None:
    """A job's file, and the specification that the other services work from."""
    job = _form(data, jobfile.JobFile)
    if job is None:
        return
    try:
        jobspec.require_trainable(job)
        spec = jobspec.trainable_spec(jobspec.to_spec(job, MODEL, DATASET, NOW))
    except jobfile.JobFileError as error:
        _storable(str(error))
        return
    assert events.JobSpec.FromString(spec.SerializeToString()) == spec


def endpoint_file(data: bytes) -> None:
    file = _form(data, endpointfile.EndpointFile)
    if file is not None:
        spec = endpointfile.to_spec(file, MODEL, MODEL, base_is_running=False)
        assert events.EndpointSpec.FromString(spec.SerializeToString()) == spec


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """The application keeps connections between requests, and they are of one loop."""
    return asyncio.new_event_loop()


def http(data: bytes) -> None:
    """A request with a body, through the whole application: it is never the service's fault, and has a document."""
    head, body = headers_and_value(data)
    method, _, path = head[0][0].partition(" ")
    answer = _loop().run_until_complete(ask(method, path, dict(head[1:]), body))
    if answer is not None:
        assert answer.status_code < 500 or answer.status_code == 503, answer.text
        if answer.status_code >= 400:
            assert answer.json()


def _noticed(body: Any, notice_seconds: Any = None) -> None:
    try:
        notice = aws_interruptions.parse(body, source="fuzz", notice_seconds=notice_seconds)
    except aws_interruptions.MalformedError as error:
        _storable(str(error))
        return
    for text in (notice.id, notice.kind):
        _storable(text)
    machine = interruptions.Machine("i-1", ours=True)
    for fact in notice.facts:
        contract.encode(contract.Envelope(fact, notice.id, "monitor", NOW))
        machine = interruptions.heard(machine, fact)
    interruptions.to_tell(machine, NOW, 1800.0)


def interruption(data: bytes) -> None:
    """The body of a message in the queue: an event of EventBridge."""
    try:
        text = data.decode()
    except UnicodeDecodeError:  # SQS takes no other text
        return
    _noticed(text)


def local_cloud(data: bytes) -> None:
    """An answer of the simulated cloud's feed."""

    async def read() -> None:
        transport = httpx2.MockTransport(lambda _request: httpx2.Response(200, content=data))
        try:
            messages = await LocalCloud("http://cloud", "token", transport).after(0)
        except SourceAwayError:
            return
        for sequence, raw in messages:
            assert type(sequence) is int
            _noticed(raw.body, raw.notice_seconds)

    asyncio.run(read())


@dataclass(frozen=True, slots=True)
class Target:
    """`cpu_seconds`, `bytes`: what one input may take at most, of time and of more memory."""

    run: Callable[[bytes], None]
    cpu_seconds: float = 5.0
    bytes: int = 256 << 20


TARGETS: dict[str, Target] = {
    "event": Target(event),
    "cloudevent": Target(cloudevent),
    "dataset-jsonl": Target(dataset_jsonl),
    "dataset-csv": Target(dataset_csv),
    "dataset-parquet": Target(dataset_parquet, bytes=512 << 20),
    "dataset-zip": Target(dataset_zip),
    "model-safetensors": Target(model_safetensors),
    "model-config": Target(model_config),
    "model-text": Target(model_text),
    "model-code": Target(model_code),
    "requirements": Target(requirements_txt),
    "job-file": Target(job_file),
    "endpoint-file": Target(endpoint_file),
    "http": Target(http, cpu_seconds=30.0),  # the first one builds the application
    "interruption": Target(interruption),
    "local-cloud": Target(local_cloud),
}
