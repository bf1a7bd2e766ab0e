"""The cluster of the embedded stack: pods are processes on machines of the simulated cloud (`sskai.local.cloud`)."""

from __future__ import annotations

import os
import sys
from ctypes.util import find_library
from datetime import datetime
from typing import Any

import httpx2

from services.scheduler.cluster import (
    ClusterUnavailableError,
    Machine,
    NoCapacityError,
    Observation,
    Pod,
    PodState,
    RefusedError,
)
from sskai.events import v1 as events

# A job file's secret HF_TOKEN is the scheduler's variable SSKAI_SECRET_HF_TOKEN: values never travel in events.
SECRET_PREFIX = "SSKAI_SECRET_"  # noqa: S105 (a name)
TCMALLOC = "tcmalloc_minimal"
POD_COMMAND = [sys.executable, "-m", "services.trainer.pod"]


def preloaded() -> dict[str, str]:
    """The variable that has a pod allocate with tcmalloc; nothing where it is not installed.

    Under glibc's own allocator a training step holds up to twice what is alive (docs/decisions/0009).
    """
    library = find_library(TCMALLOC)
    return {} if library is None else {"LD_PRELOAD": library}


class LocalCluster:
    """Speaks to the simulated cloud over loopback HTTP. A launch is idempotent by its client token, the pod's name."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        command: list[str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._command = command or POD_COMMAND
        self._preloaded = preloaded()
        self._http = httpx2.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=10, transport=transport
        )

    async def launch(self, pod: Pod) -> Machine:
        placement = pod.placement
        missing = [name for name in pod.secrets if f"{SECRET_PREFIX}{name}" not in os.environ]
        if missing:
            names = ", ".join(f"{SECRET_PREFIX}{name}" for name in missing)
            raise RefusedError(f"secrets are missing: set {names} in the environment of the scheduler (`sskai up`)")
        secrets = {name: os.environ[f"{SECRET_PREFIX}{name}"] for name in pod.secrets}
        spot = placement.capacity_type == events.CAPACITY_TYPE_SPOT
        answer = await self._ask(
            "POST",
            "/machines",
            json={
                "instance_type": placement.instance_type,
                "region": placement.region,
                "zone": placement.zone,
                "capacity_type": "spot" if spot else "on-demand",
                "price_usd_per_hour": placement.price_usd_per_hour,
                "client_token": pod.name,
                "tags": {
                    "sskai-job": pod.job_id,
                    "sskai-attempt": str(pod.attempt),
                    "sskai-tenant": pod.tenant_id,
                },
                "pod": {"name": pod.name, "command": self._command, "env": self._preloaded | secrets | dict(pod.env)},
            },
        )
        if answer.status_code == 409:
            raise NoCapacityError(answer.json().get("detail", "capacity denied"))
        machine = _json(answer)
        return Machine(machine["machine_id"], datetime.fromisoformat(machine["launched_at"]))

    async def observe(self) -> list[Observation]:
        machines = _json(await self._ask("GET", "/machines"))["machines"]
        return [_observation(machine) for machine in machines if "sskai-job" in machine["tags"]]

    async def drain(self, machine_id: str) -> None:
        answer = await self._ask("POST", f"/machines/{machine_id}/drain")
        if answer.status_code not in (404, 409):
            _json(answer)

    async def delete(self, machine_id: str) -> None:
        answer = await self._ask("DELETE", f"/machines/{machine_id}")
        if answer.status_code != 404:
            _json(answer)

    async def close(self) -> None:
        await self._http.aclose()

    async def _ask(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            return await self._http.request(method, path, **options)
        except httpx2.HTTPError as error:
            raise ClusterUnavailableError(f"{method} {path}: {error!r}") from error


def _json(answer: httpx2.Response) -> Any:
    if answer.status_code >= 400:
        raise ClusterUnavailableError(f"the cloud answered {answer.status_code}: {answer.text[:300]}")
    return answer.json()


def _observation(machine: dict[str, Any]) -> Observation:
    if machine["state"] == "gone":
        state = PodState.GONE
    elif machine["pod"]["state"] == "exited":
        state = PodState.EXITED
    else:
        state = PodState.RUNNING
    gone_at = machine.get("gone_at")
    return Observation(
        machine_id=machine["machine_id"],
        job_id=machine["tags"]["sskai-job"],
        attempt=int(machine["tags"]["sskai-attempt"]),
        state=state,
        exit_code=machine["pod"].get("exit_code"),
        ended_at=datetime.fromisoformat(gone_at) if gone_at else None,
    )
