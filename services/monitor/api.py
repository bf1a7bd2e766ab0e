"""The monitor's HTTP side: OTLP/HTTP in, and answers to the gateway about traces, figures and receipts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from psycopg.errors import QueryCanceled
from sqlalchemy.exc import DBAPIError

from services.monitor import money_api, objectives, otlp, retrain_view
from services.monitor.cells import Cells
from services.monitor.counting import RETENTION
from services.monitor.domain import Rules
from services.monitor.drift_store import DriftStore
from services.monitor.drift_view import endpoint_drift
from services.monitor.figures import FigureQuery, exemplars
from services.monitor.ingest import BusyError, Ingest
from services.monitor.metrics import SPANS
from services.monitor.objective_store import ObjectiveStore
from services.monitor.span_store import SpanStore
from services.monitor.spans import Node, nested, tree, visible_to
from services.monitor.store import Store
from services.monitor.tables import ObjectiveRow
from sskai.database import Database
from sskai.http import Problem, install_problem_handlers
from sskai.internal import Tenant

MAX_REQUEST_BYTES = 8 * 1024 * 1024
RETRY_AFTER_SECONDS = "1"

# google.rpc.Code, which OTLP's error bodies carry.
_INVALID_ARGUMENT, _RESOURCE_EXHAUSTED = 3, 8


def build(
    database: Database,
    ingest: Ingest,
    internal_token: str,
    retention: Mapping[int, timedelta] | None = None,
    rules: Rules | None = None,
) -> FastAPI:
    """The app. Reading needs the internal token and a tenant, which only the gateway sends; OTLP needs neither.

    `retention`: how long windows of figures are kept, by their seconds. What is not given is as without settings.
    """
    app = FastAPI(title="SSKAI monitor", openapi_url=None)
    app.state.internal_token = internal_token
    install_problem_handlers(app)
    _add_otlp(app, ingest)
    rules = rules or Rules()
    _add_reads(app, database, retention or RETENTION, rules.drift.alpha)
    retrain_view.add(app, database, rules)
    money_api.add(app, database)
    return app


def _add_otlp(app: FastAPI, ingest: Ingest) -> None:
    @app.post("/v1/traces")
    async def export(request: Request) -> Response:
        """OTLP/HTTP: 200 (with a partial success for refused spans), 4xx for what is never taken, 503 for later."""
        content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in (otlp.PROTOBUF, otlp.JSON):
            return _refused(415, _INVALID_ARGUMENT, f"content-type is {otlp.PROTOBUF} or {otlp.JSON}", otlp.PROTOBUF)
        try:
            batch = otlp.read(await _body(request), content_type, datetime.now(UTC))
            await ingest.add(batch.spans)
        except otlp.TooLargeError as error:
            return _refused(413, _INVALID_ARGUMENT, str(error), content_type)
        except otlp.UnreadableError as error:
            return _refused(400, _INVALID_ARGUMENT, str(error), content_type)
        except BusyError:
            return _refused(503, _RESOURCE_EXHAUSTED, "too many spans wait; send them again", content_type)
        SPANS.labels(outcome="rejected").inc(batch.rejected)
        answer = ExportTraceServiceResponse()
        if batch.rejected:
            answer.partial_success.rejected_spans = batch.rejected
            answer.partial_success.error_message = batch.reason
        return _answer(200, answer, content_type)


async def _body(request: Request) -> bytes:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_REQUEST_BYTES:
            raise otlp.TooLargeError(f"over {MAX_REQUEST_BYTES} bytes")
    match request.headers.get("content-encoding", "identity").lower():
        case "identity" | "":
            return bytes(data)
        case "gzip":
            return otlp.gunzip(bytes(data), MAX_REQUEST_BYTES)
        case other:
            raise otlp.UnreadableError(f"content-encoding {other!r:.40}; known are gzip and identity")


def _refused(status: int, code: int, message: str, content_type: str) -> Response:
    response = _answer(status, Status(code=code, message=message), content_type)
    if status == 503:
        response.headers["retry-after"] = RETRY_AFTER_SECONDS
    return response


def _answer(status: int, message: Message, content_type: str) -> Response:
    if content_type == otlp.JSON:
        return Response(json_format.MessageToJson(message, indent=None), status, media_type=otlp.JSON)
    return Response(message.SerializeToString(), status, media_type=otlp.PROTOBUF)


def _add_reads(app: FastAPI, database: Database, retention: Mapping[int, timedelta], drift_alpha: float) -> None:
    @app.get("/v1/traces/{trace_id}")
    async def trace(trace_id: str, tenant_id: Tenant, shape: Literal["list", "tree"] = "list") -> Response:
        """A trace in tree order: parents before children, each span with its depth, start offset and duration.

        With `shape=tree` each span holds its `children`.
        """
        async with database.transaction() as session:
            spans, counted_only = await SpanStore(session).trace(trace_id.lower())
        nodes = tree(visible_to(tenant_id, spans))
        if not nodes:
            raise Problem(404, "No such trace", f"{trace_id} is not known, not yours, or past its retention")
        first = min(node.span.started_ns for node in nodes)
        last = max(node.span.ended_ns for node in nodes)
        told = {
            "trace_id": trace_id.lower(),
            "started_at": datetime.fromtimestamp(first / 1e9, UTC).isoformat(),
            "duration_seconds": (last - first) / 1e9,
            "services": sorted({node.span.service for node in nodes}),
            "spans_counted_only": counted_only,
            "spans": nested(nodes, _node) if shape == "tree" else [_node(node) for node in nodes],
        }
        return Response(json.dumps(told, separators=(",", ":")), media_type="application/json")

    @app.get("/v1/figures")
    async def figures(tenant_id: Tenant, query: Annotated[FigureQuery, Query()]) -> dict[str, Any]:
        """RED figures and values of the tenant's spans, by the time of their end."""
        first, last = query.span_of_time(datetime.now(UTC), retention)
        try:
            async with database.snapshot() as session:
                found = await Cells(session).answer(
                    tenant_id,
                    query.step_seconds,
                    first,
                    last,
                    group_by=query.groups,
                    whole=query.whole,
                    labels=query.labels,
                    exemplars=True,
                )
                kept = await SpanStore(session).kept_among(exemplars(found))
        except DBAPIError as error:
            if not isinstance(error.orig, QueryCanceled):
                raise
            detail = "The database took too long: ask for a shorter time, longer windows or fewer labels"
            raise Problem(503, "Too much was asked", detail) from error
        return query.answer(found, first, last, kept)

    @app.get("/v1/objectives/{endpoint_id}")
    async def promises(endpoint_id: str, tenant_id: Tenant) -> dict[str, Any]:
        """What an endpoint promises, and how fast it spends its budgets of errors."""
        async with database.transaction() as session:
            rows = await ObjectiveStore(session).of_endpoint(endpoint_id, tenant_id)
        return {"object": "list", "data": [_objective(row) for row in rows]}

    @app.get("/v1/drift/{endpoint_id}")
    async def drift(endpoint_id: str, tenant_id: Tenant) -> dict[str, Any]:
        """How the drift tests of an endpoint's versions stand, and what they have told."""
        async with database.transaction() as session:
            versions = await endpoint_drift(DriftStore(session), endpoint_id, tenant_id, drift_alpha)
        if not versions:
            raise Problem(
                404, "No samples", f"{endpoint_id} is not known here, not yours, or was not asked anything yet"
            )
        return {"object": "endpoint.drift", "endpoint_id": endpoint_id, "versions": versions}

    @app.get("/v1/receipts/{job_id}")
    async def receipt(job_id: str, tenant_id: Tenant) -> dict[str, Any]:
        """A job's receipt (null until it has one) and the rows of the ledger that it is the sum of."""
        async with database.transaction() as session:
            issued = await Store(session).receipt(job_id, tenant_id)
            rows = await Store(session).spend(job_id, tenant_id)
        if issued is None and not rows:
            raise Problem(404, "No such job", f"{job_id} is not known here, not yours, or has cost nothing yet")
        return {
            "job_id": job_id,
            "receipt": {**issued.body, "issued_at": issued.issued_at} if issued else None,
            "rows": [{key: getattr(row, key) for key in _ROW_FIELDS} for row in rows],
        }


_ROW_FIELDS = (
    "interval", "attempt", "machine_id", "cloud", "region", "zone", "instance_type", "capacity_type", "started_at",
    "ended_at", "price_usd_per_hour", "amount_nano_usd", "on_demand_nano_usd",
)  # fmt: skip


def _objective(row: ObjectiveRow) -> dict[str, Any]:
    spent = row.burn_rates.get(str(objectives.BUDGET_SECONDS))
    return {
        "object": "endpoint.objective",
        "name": row.objective,
        "target": row.target,
        "at_most_seconds": row.at_most,
        "severity": objectives.severity(row.breached) or None,
        "breached_since": min(row.breached.values(), default=None),
        "burn_rates": {f"{seconds}s": row.burn_rates.get(str(seconds)) for seconds in objectives.PERIODS_SECONDS},
        "budget_left_fraction": None if spent is None else 1 - spent,
        "set_at": row.set_at,
    }


def _node(node: Node) -> dict[str, Any]:
    span = node.span
    return {
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "depth": node.depth,
        "service": span.service,
        "name": span.name,
        "kind": span.kind,
        "start_offset_seconds": node.start_offset_seconds,
        "duration_seconds": span.seconds,
        "failed": span.failed,
        "status_message": span.status_message,
        "attributes": span.attributes,
        "events": span.events,
        "links": span.links,
    }
