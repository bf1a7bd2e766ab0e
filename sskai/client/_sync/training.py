# Made by `python -m tools.sync_client` of ../_async: edit that.
"""Plans and jobs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sskai.client._sync.transport import Resource
from sskai.client.documents import Document, File, Job, Log, Plan, Replay
from sskai.client.errors import refused
from sskai.client.wire import JOB_ENDS, Event, LogLine, answered, given

PLAN_SECONDS = 120.0  # the first plan of a model measures it, in a process of its own


class Plans(Resource):
    def create(self, file: File, *, wait_seconds: float = PLAN_SECONDS, poll_seconds: float = 0.5) -> Plan:
        """A dry run of a job file, or of an endpoint file (`kind: endpoint`), before anything is spent.

        Returns the plan with its `candidates` (of an endpoint: `options`), best first; the first is the chosen one.
        Raises SskaiError if nothing meets the constraints (`problem["reason"]` says which), TimeoutError if there is no
        answer within `wait_seconds`.
        """
        plan = self._client.ask(Plan, "POST", "/v1/plans", json=file)
        plan = self._client.until(
            Plan,
            f"/v1/plans/{plan['id']}",
            answered,
            limit_seconds=wait_seconds,
            poll_seconds=poll_seconds,
            first=plan,
        )
        if plan["status"] == "refused":
            detail = f"{plan['detail']} {plan['advice']}".strip()
            raise refused("Nothing meets the constraints", detail, reason=plan["reason"], plan_id=plan["id"])
        return plan

    def replay(
        self, plan_id: str, policy: str | None = None, *, wait_seconds: float = PLAN_SECONDS, poll_seconds: float = 0.5
    ) -> Replay:
        """The stored decision made again from its inputs; with `policy` ("fastest", ...) as if that had decided.

        `equal` says whether it came out equal to the bit, `differences` how it did not; `stored_choice` and `choice`
        are candidates, or None for a refusal. Raises SskaiError for a plan that cannot be replayed or a policy that is
        unknown, TimeoutError if there is no answer within `wait_seconds`.
        """
        replay = self._client.ask(Replay, "POST", f"/v1/plans/{plan_id}/replay", json={"policy": policy})
        replay = self._client.until(
            Replay,
            f"/v1/plans/{replay['plan_id']}/replays/{replay['id']}",
            answered,
            limit_seconds=wait_seconds,
            poll_seconds=poll_seconds,
            first=replay,
        )
        if replay["status"] == "failed":
            raise refused("The plan cannot be replayed", replay["problem"], replay_id=replay["id"])
        return replay

    def get(self, plan_id: str) -> Plan:
        return self._client.ask(Plan, "GET", f"/v1/plans/{plan_id}")

    def list(self, job_id: str | None = None) -> Iterator[Plan]:
        return self._client.pages(Plan, "/v1/plans", job_id=job_id)


class Jobs(Resource):
    def create(self, job: File, *, idempotency_key: str | None = None) -> Job:
        """Submit a job file. With a key of yours, also a crash of your program submits it once."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else None
        return self._client.ask(Job, "POST", "/v1/jobs", json=job, headers=headers)

    def get(self, job_id: str) -> Job:
        return self._client.ask(Job, "GET", f"/v1/jobs/{job_id}")

    def list(self, state: str | None = None, **filters: str | None) -> Iterator[Job]:
        """Newest first, in short."""
        return self._client.pages(Job, "/v1/jobs", state=state, **filters)

    def cancel(self, job_id: str) -> Job:
        """What runs may save first."""
        return self._client.ask(Job, "POST", f"/v1/jobs/{job_id}/cancel")

    def wait(self, job_id: str, *, limit_seconds: float = 86_400, poll_seconds: float = 1.0) -> Job:
        """The job once it has ended, whichever way. TimeoutError after the limit."""
        return self._client.until(
            Job,
            f"/v1/jobs/{job_id}",
            lambda job: job["state"] in JOB_ENDS,
            limit_seconds=limit_seconds,
            poll_seconds=poll_seconds,
        )

    def follow(self, job_id: str, *, after: int = 0) -> Iterator[Event]:
        """Its events from the first one on, and then as they happen, up to its end."""
        path, filters = "/v1/events", {"subject": job_id}
        for message in self._client.follow(path, filters, after=str(after)):
            event = Event.of(message)
            yield event
            if event.type in ("JobSucceeded", "JobFailed", "JobCancelled"):
                return

    def timeline(self, job_id: str) -> Document:
        """Its attempts, waits, events and prices in time, as `docs/guides/timeline.md` describes them."""
        return self._client.ask(dict[str, Any], "GET", f"/v1/jobs/{job_id}/timeline")

    def trace(self, job_id: str) -> Document:
        """The trace of its whole journey: its spans with start and duration, parents before children."""
        return self._client.ask(dict[str, Any], "GET", f"/v1/jobs/{job_id}/trace")

    def logs(self, job_id: str, *, attempt: int | None = None, tail: int = 100) -> Log:
        """What an attempt's pod printed last; of the newest attempt if none is named."""
        params = given(attempt=attempt, tail=tail)
        return self._client.ask(Log, "GET", f"/v1/jobs/{job_id}/logs", params=params)

    def follow_logs(self, job_id: str, *, attempt: int | None = None, tail: int = 100) -> Iterator[LogLine]:
        """What its pods print, from the last lines on, over all attempts, up to its end (of one attempt, to that's)."""
        params = {"follow": "true", **given(attempt=attempt, tail=tail)}
        for message in self._client.follow(f"/v1/jobs/{job_id}/logs", params, after=None):
            if message.event == "end":
                return
            told = json.loads(message.data)
            yield LogLine(int(told["attempt"]), str(told["text"]), told.get("at"))
