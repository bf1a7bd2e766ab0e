"""The cluster of the embedded stack: pods are processes on machines of the simulated cloud (`sskai.local.cloud`)."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from ctypes.util import find_library
from datetime import datetime
from typing import Any

import httpx2

from sskai import failpoints
from sskai.cluster import (
    Cluster,
    ClusterUnavailableError,
    Line,
    LogPage,
    Machine,
    NoCapacityError,
    NoLogError,
    Observation,
    Pod,
    PodState,
    Program,
    RefusedError,
)
from sskai.cluster.pods import KILLED, Ending, gang_end, lost_members
from sskai.events import v1 as events

# A job file's secret HF_TOKEN is the scheduler's variable SSKAI_SECRET_HF_TOKEN: values never travel in events.
SECRET_PREFIX = "SSKAI_SECRET_"  # noqa: S105 (a name)
TCMALLOC = "tcmalloc_minimal"
# Tags of a machine. One without a program is of a release that had trainers only.
JOB_ID, ATTEMPT, TENANT, PROGRAM = "sskai-job", "sskai-attempt", "sskai-tenant", "sskai-program"
FIRST_PROGRAM = "trainer"


def pod_command(program: Program) -> list[str]:
    return [sys.executable, "-m", program.module]


def preloaded() -> dict[str, str]:
    """The variable that has a pod allocate with tcmalloc; nothing where it is not installed.

    Under glibc's own allocator a training step holds up to twice what is alive (docs/decisions/0009).
    """
    library = find_library(TCMALLOC)
    return {} if library is None else {"LD_PRELOAD": library}


@failpoints.boundary("cluster", ClusterUnavailableError, of=Cluster)
class LocalCluster:
    """Speaks to the simulated cloud over loopback HTTP. A launch is idempotent by its client token, the pod's name.

    A gang is named by the machine of rank 0; the cloud gives all of its machines or none and tells each pod its rank.
    """

    def __init__(
        self,
        url: str,
        token: str,
        program: Program,
        *,
        command: list[str] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._program = program
        self._command = command or pod_command(program)
        self._preloaded = preloaded()
        self._http = httpx2.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
            transport=transport,
            # The cloud closes a connection that idled for 5 s: one that old would fail in the moment of its use.
            limits=httpx2.Limits(keepalive_expiry=2.0),
        )

    async def launch(self, pod: Pod) -> Machine:
        placement = pod.placement
        missing = [name for name in pod.secrets if f"{SECRET_PREFIX}{name}" not in os.environ]
        if missing:
            names = ", ".join(f"{SECRET_PREFIX}{name}" for name in missing)
            raise RefusedError(
                f"secrets are missing: set {names} in the environment of {self._program.managed_by} (`sskai up`)"
            )
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
                "machines": pod.machines,
                "lifetime_seconds": pod.lifetime_seconds,
                "tags": {
                    JOB_ID: pod.job_id,
                    ATTEMPT: str(pod.attempt),
                    TENANT: pod.tenant_id,
                    PROGRAM: self._program.name,
                },
                "pod": {"name": pod.name, "command": self._command, "env": self._preloaded | secrets | dict(pod.env)},
            },
        )
        if answer.status_code == 409:
            raise NoCapacityError(answer.json().get("detail", "capacity denied"))
        machine = _json(answer)
        members = tuple(machine["members"]) if pod.machines > 1 else ()
        return Machine(machine["machine_id"], datetime.fromisoformat(machine["launched_at"]), members)

    async def observe(self) -> list[Observation]:
        machines = _json(await self._ask("GET", "/machines"))["machines"]
        gangs = defaultdict(list)
        for machine in machines:
            tags = machine["tags"]
            if JOB_ID in tags and tags.get(PROGRAM, FIRST_PROGRAM) == self._program.name:
                gangs[machine["client_token"]].append(machine)
        return [_observation(sorted(gang, key=lambda machine: int(machine["rank"]))) for gang in gangs.values()]

    async def drain(self, machine_id: str) -> None:
        answer = await self._ask("POST", f"/machines/{machine_id}/drain", params={"gang": True})
        if answer.status_code not in (404, 409):
            _json(answer)

    async def delete(self, machine_id: str) -> None:
        answer = await self._ask("DELETE", f"/machines/{machine_id}", params={"gang": True})
        if answer.status_code != 404:
            _json(answer)

    async def log(self, machine_id: str, *, tail: int, after: str = "") -> LogPage:
        answer = await self._ask("GET", f"/machines/{machine_id}/lines", params={"tail": tail, "after": after})
        if answer.status_code == 404:
            raise NoLogError(f"the machine {machine_id} is gone for so long that its log is no longer kept")
        page = _json(answer)
        return LogPage(tuple(map(Line, page["lines"])), page["after"], truncated=page["truncated"])

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


def _observation(gang: Sequence[dict[str, Any]]) -> Observation:
    """What the machines of one launch, by rank, say together."""
    first = gang[0]
    endings = [one for one in map(_ending, gang) if one is not None]
    over = gang_end(endings, int(first["size"]))
    lost, lost_at = lost_members(endings) if over is None else (0, None)
    state = PodState.RUNNING if over is None else PodState.EXITED
    if over is not None and over.exit_code != 0 and any(machine["state"] == "gone" for machine in gang):
        state = PodState.GONE
    gone = [datetime.fromisoformat(machine["gone_at"]) for machine in gang if machine["gone_at"]]
    notices = [
        datetime.fromisoformat(machine["terminate_at"])
        for machine in gang
        if machine["terminate_at"] and machine["state"] != "gone"
    ]
    return Observation(
        machine_id=first["machine_id"],
        job_id=first["tags"][JOB_ID],
        attempt=int(first["tags"][ATTEMPT]),
        state=state,
        exit_code=over.exit_code if over is not None else None,
        ended_at=None if over is None else over.ended_at or min(gone, default=None),
        terminates_at=min(notices, default=None),
        lost=lost,
        lost_at=lost_at,
        stands=any(machine["state"] != "gone" for machine in gang),
    )


def _ending(machine: dict[str, Any]) -> Ending | None:
    """How the pod of one machine ended. The cloud does not say when a pod exited."""
    pod, gone = machine["pod"], machine["state"] == "gone"
    at = datetime.fromisoformat(machine["gone_at"]) if gone else None
    first = int(machine["rank"]) == 0
    if pod["state"] == "exited" and not (gone and pod["exit_code"] in KILLED):
        return Ending(int(pod["exit_code"]), None, first=first)
    return Ending(None, at, first=first) if gone else None
