"""The simulated market from the side of the one who takes machines away and looks at logs: the demo, and benchmarks."""

from __future__ import annotations

import json
from typing import Any

import httpx2


class CloudClient:
    """Raises httpx2.HTTPError for what the cloud does not do."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx2.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
            # The cloud closes a connection that idled for 5 s: one that old would fail in the moment of its use.
            limits=httpx2.Limits(keepalive_expiry=2.0),
        )

    def interrupt(self, machine_id: str, notice_seconds: float) -> None:
        """0: at once, and without a word."""
        body = {"notice_seconds": notice_seconds}
        self._http.post(f"/machines/{machine_id}/interrupt", json=body).raise_for_status()

    def machines(self) -> list[dict[str, Any]]:
        """All, those that are gone a short while ago among them."""
        found: list[dict[str, Any]] = self._http.get("/machines").raise_for_status().json()["machines"]
        return found

    def machine_of(self, job_id: str) -> dict[str, Any] | None:
        """The first machine of the job whose pod is a process."""
        return next(
            (one for one in self.machines() if one["tags"].get("sskai-job") == job_id and one["pod"]["pid"]), None
        )

    def said(self, machine_id: str, event: str) -> list[dict[str, Any]]:
        """The lines of the pod's log with this event."""
        text = self._http.get(f"/machines/{machine_id}/log", params={"tail": 10_000}).raise_for_status().text
        lines = (json.loads(line) for line in text.splitlines() if line.startswith("{"))
        return [line for line in lines if line.get("event") == event]
