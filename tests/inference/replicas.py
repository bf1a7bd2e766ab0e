"""Replicas as child processes, and the service's side of their reports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from services.inference.remote_engine import Replica
from services.inference.replica.words import Report

TOKEN = "a-token-of-sixteen-or-more"


class Home:
    """Hears reports over HTTP and knows who is ready, as the control plane does; takes spans, as the monitor does."""

    def __init__(self) -> None:
        self.reports: dict[str, list[Report]] = {}
        self.failures: list[str] = []
        self.spans: list[Any] = []  # opentelemetry.proto.trace.v1.Span
        self.wanted = True
        home = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces":
                    told = ExportTraceServiceRequest.FromString(body).resource_spans
                    home.spans += [span for each in told for scope in each.scope_spans for span in scope.spans]
                    self.send_response(200)
                    self.end_headers()
                    return
                allowed = self.headers["authorization"] == f"Bearer {TOKEN}"
                if allowed and home.wanted:
                    home.reports.setdefault(self.path.rpartition("/")[2], []).append(Report.model_validate_json(body))
                self.send_response(204 if allowed and home.wanted else 410)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def last(self, replica_id: str) -> Report | None:
        reports = self.reports.get(replica_id)
        return reports[-1] if reports else None

    def forget(self, replica_id: str) -> None:
        self.reports.pop(replica_id, None)

    def ready(self, _endpoint_id: str) -> list[Replica]:
        found = {replica_id: self.last(replica_id) for replica_id in list(self.reports)}
        return [
            Replica(replica_id, report.url, TOKEN)
            for replica_id, report in found.items()
            if report is not None and report.state == "ready"
        ]

    def report_failure(self, replica_id: str) -> None:
        self.failures.append(replica_id)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class ReplicaProcess:
    """`environment`: models, cache and object store."""

    replica_id: str
    home: Home
    environment: Mapping[str, str]
    log: Path
    endpoint: Mapping[str, Any] = field(default_factory=lambda: {"base_uri": "builtin://tiny"})
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        environment = {
            **os.environ,
            "SSKAI_THREADS": "1",
            "OMP_NUM_THREADS": "1",
            "SSKAI_MAX_CONCURRENT_SEQUENCES": "4",
            "SSKAI_MAX_WAITING_SEQUENCES": "4",
            **self.environment,
            "SSKAI_REPLICA_ID": self.replica_id,
            "SSKAI_REPLICA_HOME": self.home.url,
            "SSKAI_OTLP_URL": self.home.url,
            "SSKAI_REPLICA_TOKEN": TOKEN,
            "SSKAI_REPLICA_ENDPOINT": json.dumps({"endpoint_id": "end_1", **self.endpoint}),
        }
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "services.inference.replica"]
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def is_ready(self) -> bool:
        """Whether it has told so; an AssertionError with its log if it has ended."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        report = self.home.last(self.replica_id)
        return report is not None and report.state == "ready"

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and nobody calls it ready any more."""
        self.process.kill()
        self.process.wait()
        self.home.forget(self.replica_id)
