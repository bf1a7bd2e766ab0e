"""A run's figures for MLflow, where `MLFLOW_TRACKING_URI` is set: over its REST API, from a thread of its own.

One run per job, found again by its tag `sskai.job`, so every attempt goes on with it, even one whose predecessor left
no checkpoint. A server that is slow or away stops nothing: figures wait, up to a limit, oldest dropped first.
https://mlflow.org/docs/latest/rest-api.html
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

log = structlog.get_logger()

BATCH_SECONDS = 1.0  # at most one request of metrics a second
MAX_BATCH = 900  # the server takes 1,000 metrics a request
MAX_WAITING = 20_000
MAX_PARAMS = 100  # a request
MAX_VALUE_LENGTH = 500  # of a param; what every version of the server takes
LAST_PAUSE_SECONDS = 60.0
REQUEST_SECONDS = 10.0
CLOSE_SECONDS, HANDING_OVER_SECONDS = 5.0, 1.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where figures go, and as whom."""

    uri: str
    experiment: str
    token: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Server | None:
        """None: nobody asked for it, or not for a server."""
        uri = env.get("MLFLOW_TRACKING_URI", "")
        if not uri.startswith(("http://", "https://")):
            return None
        return cls(
            uri.rstrip("/"),
            env.get("MLFLOW_EXPERIMENT_NAME") or "Default",
            env.get("MLFLOW_TRACKING_TOKEN", ""),
            env.get("MLFLOW_TRACKING_USERNAME", ""),
            env.get("MLFLOW_TRACKING_PASSWORD", ""),
        )


class Tracking:
    """Tells one attempt's figures. `server` None: to nobody."""

    def __init__(
        self, server: Server | None, job_id: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> None:
        self._server = server
        self._job_id = job_id
        self._name = name
        self._params = {key: str(value)[:MAX_VALUE_LENGTH] for key, value in params.items()}
        self._tags = {**tags, "sskai.job": job_id}
        self._waiting: deque[dict[str, Any]] = deque(maxlen=MAX_WAITING)
        self._status = ""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        if server is not None:
            self._thread.start()

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Figures of a step, to be told soon."""
        if self._server is None:
            return
        now = _milliseconds()
        with self._changed:
            self._waiting.extend(
                {"key": key, "value": value, "timestamp": now, "step": step} for key, value in values.items()
            )

    def close(self, status: str) -> None:
        """Tell what waits and the run's status ("FINISHED" | "FAILED" | "SCHEDULED": another attempt goes on), for at
        most some seconds."""
        if self._server is None:
            return
        with self._changed:
            self._status = status
            self._changed.notify_all()
        # A successor may be waiting for the end of this attempt.
        self._thread.join(HANDING_OVER_SECONDS if status == "SCHEDULED" else CLOSE_SECONDS)

    def _run(self) -> None:
        assert self._server is not None
        pause_seconds, run_id = BATCH_SECONDS, ""
        with _Client(self._server) as client:
            while True:
                ending = self._status
                try:
                    run_id = run_id or self._begin(client)
                    self._tell(client, run_id)
                    if ending and not self._waiting:
                        client.post("runs/update", run_id=run_id, status=ending, end_time=_milliseconds())
                        return
                    pause_seconds = BATCH_SECONDS
                except Exception as error:  # whatever is wrong with the server, training goes on
                    log.warning("MLflow does not take the figures", waiting=len(self._waiting), error=repr(error)[:300])
                    pause_seconds = min(2 * pause_seconds, LAST_PAUSE_SECONDS)
                    if ending:
                        return
                with self._changed:
                    self._changed.wait_for(lambda: bool(self._status), pause_seconds)

    def _begin(self, client: _Client) -> str:
        """The job's run: the one that an earlier attempt began, else a new one."""
        experiment = client.experiment()
        found = client.post(
            "runs/search",
            experiment_ids=[experiment],
            filter=f"tags.`sskai.job` = '{self._job_id}'",
            max_results=1,
        ).get("runs")
        if found:
            run_id = str(found[0]["info"]["run_id"])
            client.post("runs/update", run_id=run_id, status="RUNNING")
        else:
            tags = [{"key": key, "value": value} for key, value in self._tags.items()]
            created = client.post(
                "runs/create", experiment_id=experiment, run_name=self._name, start_time=_milliseconds(), tags=tags
            )
            run_id = str(created["run"]["info"]["run_id"])
            params = [{"key": key, "value": value} for key, value in self._params.items()]
            for start in range(0, len(params), MAX_PARAMS):
                client.post("runs/log-batch", run_id=run_id, params=params[start : start + MAX_PARAMS])
        return run_id

    def _tell(self, client: _Client, run_id: str) -> None:
        with self._changed:
            batch = [self._waiting[at] for at in range(min(MAX_BATCH, len(self._waiting)))]
        if not batch:
            return
        client.post("runs/log-batch", run_id=run_id, metrics=batch)
        told = {id(one) for one in batch}
        with self._changed:
            # While it was told, the oldest may have been dropped to make room.
            while self._waiting and id(self._waiting[0]) in told:
                self._waiting.popleft()


class _Client:
    """The server's REST API. Every call raises httpx2's errors."""

    def __init__(self, server: Server) -> None:
        import httpx2

        headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
        login = (server.username, server.password) if server.username and not server.token else None
        self._experiment = server.experiment
        self._http = httpx2.Client(
            base_url=f"{server.uri}/api/2.0/mlflow/", headers=headers, auth=login, timeout=REQUEST_SECONDS
        )

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self._http.post(path, json=body).raise_for_status()
        document: dict[str, Any] = answer.json() if answer.content else {}
        return document

    def experiment(self) -> str:
        """Its id; an absent one is made."""
        answer = self._http.get("experiments/get-by-name", params={"experiment_name": self._experiment})
        if answer.status_code == 404:
            return str(self.post("experiments/create", name=self._experiment)["experiment_id"])
        return str(answer.raise_for_status().json()["experiment"]["experiment_id"])


def _milliseconds() -> int:
    return int(time.time() * 1000)
