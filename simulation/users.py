"""People who submit jobs, cancel them and set budgets, by the gateway's own routes, again and again until answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from services.gateway.access import SCOPES
from services.gateway.api import budgets, jobs
from services.gateway.datareport import Summary
from services.gateway.jobfile import JobFile
from services.gateway.keys import Actor as Who
from services.gateway.keys import Principal
from services.gateway.library import validated
from services.gateway.store import Store
from simulation import globals as simulated
from simulation.processes import MODEL, Process
from simulation.trace import Trace
from sskai.contract import new_id
from sskai.delivery import tell
from sskai.http import Problem

ANSWER_SECONDS = 20.0
PAUSE_SECONDS = 3.0


@dataclass
class Wish:
    """A job that somebody wants."""

    tenant_id: str
    name: str
    at: float
    file: dict[str, Any]
    cancel_after: float | None = None
    job_id: str = ""


@dataclass
class Users:
    gateway: Callable[[], Process | None]
    trace: Trace
    acknowledged: dict[str, Wish] = field(default_factory=dict)  # by job: the gateway said 202
    refused: list[str] = field(default_factory=list)

    async def upload(self, tenant_id: str, rows: int) -> None:
        """The dataset that the tenant's jobs train on."""

        async def put(here: Any) -> None:
            async with here.database.transaction() as session:
                summary = Summary("messages", rows, rows * 200, f"{tenant_id:0<64}", rows * 40, {})
                dataset, _ = await Store(session).library.add_dataset(
                    tenant_id, "chats", f"s3://simulated/tenants/{tenant_id}/chats", summary, here.now()
                )
                await tell(session, validated(dataset))

        await self._ask("upload", put)

    async def submit(self, wish: Wish) -> None:
        """Until there is an answer, with one Idempotency-Key."""
        await asyncio.sleep(wish.at)
        key, caller = new_id("key"), _caller(wish.tenant_id)
        body = json.dumps(wish.file).encode()

        async def post(here: Any) -> Any:
            async def whole() -> bytes:
                return body

            request = SimpleNamespace(body=whole)
            return await jobs.submit_job(JobFile.model_validate_json(body), request, here, caller, key)  # type: ignore[arg-type]

        answer = await self._ask(f"submit {wish.name}", post)
        if answer is None:
            self.refused.append(wish.name)
            return
        wish.job_id = json.loads(answer.body)["id"]
        self.acknowledged[wish.job_id] = wish
        self.trace.say("acknowledged", f"{wish.job_id} {wish.name}")
        if wish.cancel_after is not None:
            await asyncio.sleep(wish.cancel_after)
            await self._ask(f"cancel {wish.job_id}", lambda here: jobs.cancel_job(wish.job_id, here, caller))

    async def set_budget(self, tenant_id: str, at: float, form: dict[str, Any]) -> None:
        await asyncio.sleep(at)
        wanted = budgets.BudgetForm.model_validate_json(json.dumps(form))
        await self._ask(f"budget of {tenant_id}", lambda here: budgets.put_budget(wanted, here, _caller(tenant_id), []))

    async def _ask(self, what: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
        """The answer; None: it was refused for good."""
        while True:
            process = self.gateway()
            try:
                return await asyncio.wait_for(asyncio.shield(_asked(process, work)), ANSWER_SECONDS)
            except Problem as problem:
                if problem.status not in (429, 503):
                    self.trace.say("refused", f"{what}: {problem.status} {problem.detail}")
                    return None
            except Exception as error:
                self.trace.say("no-answer", f"{what}: {type(error).__name__}")
            except asyncio.CancelledError:
                if process is not None and process.alive:
                    raise
                self.trace.say("no-answer", f"{what}: the gateway died")
            await asyncio.sleep(simulated.SOURCES.dice.uniform(0.5, PAUSE_SECONDS))


def _asked(process: Process | None, work: Callable[[Any], Awaitable[Any]]) -> asyncio.Task[Any]:
    """The request, as the gateway's process works on it. Raises ConnectionError."""
    if process is None or not process.alive or process.built is None:
        raise ConnectionError("the gateway is down")
    return process.run(work(process.built.world))


def _caller(tenant_id: str) -> Principal:
    return Principal(tenant_id, f"key_{tenant_id}", Who("key", f"key_{tenant_id}", "simulated"), frozenset(SCOPES))


def job_file(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "model": {"base": MODEL}, "dataset": {"uri": "dataset://chats/1"}, **fields}
