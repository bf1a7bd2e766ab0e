"""The cloud's HTTP API: JSON, loopback, one bearer token. Errors are `{"error": code, "detail": sentence}`."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from sskai.local.cloud.cloud import (
    MACHINES_AT_MOST,
    CapacityDeniedError,
    Cloud,
    Launch,
    NotInterruptibleError,
    UnknownMachineError,
)
from sskai.local.cloud.faults import Faults, FaultsRequest
from sskai.local.cloud.machines import iso
from sskai.local.cloud.market import CapacityType, Market

TICK_SECONDS = 0.2


class PodRequest(BaseModel):
    """The program of the machine: its command is run as it stands, without a shell."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str = Field(max_length=253)
    command: list[str] = Field(min_length=1, max_length=256)
    env: dict[str, str] = Field(default_factory=dict, max_length=256)


class MachineRequest(BaseModel):
    """A machine and its pod, or a gang of them, all or none. Without a price the market's of this moment is taken."""

    model_config = ConfigDict(strict=True, extra="forbid")

    instance_type: str = Field(min_length=1, max_length=64)
    region: str = Field(min_length=1, max_length=64)
    zone: str = Field(min_length=1, max_length=64)
    capacity_type: CapacityType
    client_token: str = Field(min_length=1, max_length=128)
    price_usd_per_hour: float | None = Field(default=None, ge=0)
    tags: dict[str, str] = Field(default_factory=dict, max_length=64)
    machines: int = Field(default=1, ge=1, le=MACHINES_AT_MOST)
    lifetime_seconds: float | None = Field(default=None, gt=0)
    pod: PodRequest


class InterruptionRequest(BaseModel):
    """How long the market warns before it takes the machine; 0 takes it at once, without a message."""

    model_config = ConfigDict(extra="forbid")

    notice_seconds: float = Field(ge=0, le=3600)


class MarketRequest(BaseModel):
    """Patterns `zone/instance_type/capacity_type` that are denied; `*` stands for anything."""

    model_config = ConfigDict(strict=True, extra="forbid")

    denied: list[Annotated[str, Field(max_length=200)]] = Field(max_length=1000)


def create_app(cloud: Cloud, market: Market, token: str) -> FastAPI:
    """The API over a cloud. Its lifespan ticks the cloud five times a second."""

    @contextlib.asynccontextmanager
    async def ticking(_: FastAPI) -> AsyncIterator[None]:
        ticker = asyncio.create_task(_tick_for_ever(cloud))
        yield
        ticker.cancel()

    def authorized(authorization: Annotated[str, Header()] = "") -> None:
        if not hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
            raise HTTPException(401, "a bearer token is needed: SSKAI_CLOUD_TOKEN")

    app = FastAPI(title="SSKAI's simulated spot cloud", lifespan=ticking)
    guarded: dict[str, Any] = {"dependencies": [Depends(authorized)]}
    faults = Faults()
    app.middleware("http")(faults.answer)

    @app.exception_handler(CapacityDeniedError)
    def capacity_denied(_: Request, error: CapacityDeniedError) -> JSONResponse:
        return JSONResponse({"error": "capacity-denied", "detail": str(error)}, 409)

    @app.exception_handler(UnknownMachineError)
    def unknown_machine(_: Request, error: UnknownMachineError) -> JSONResponse:
        return JSONResponse({"error": "unknown-machine", "detail": str(error)}, 404)

    @app.exception_handler(NotInterruptibleError)
    def not_interruptible(_: Request, error: NotInterruptibleError) -> JSONResponse:
        return JSONResponse({"error": "not-interruptible", "detail": str(error)}, 409)

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/machines", status_code=201, **guarded)
    def launch(request: MachineRequest, response: Response) -> dict[str, Any]:
        fields = request.model_dump(exclude={"pod"})
        wanted = Launch(**fields, pod_name=request.pod.name, command=request.pod.command, environment=request.pod.env)
        launched, is_new = cloud.launch(wanted)
        response.status_code = 201 if is_new else 200
        return launched[0].view() | {"members": [machine.machine_id for machine in launched]}

    @app.get("/machines", **guarded)
    def machines() -> dict[str, Any]:
        return {"machines": [machine.view() for machine in cloud.machines()]}

    @app.get("/machines/{machine_id}", **guarded)
    def machine(machine_id: str) -> dict[str, Any]:
        return cloud.machine(machine_id).view()

    @app.delete("/machines/{machine_id}", **guarded)
    def terminate(machine_id: str, gang: bool = False) -> dict[str, Any]:
        return cloud.terminate(machine_id, gang=gang).view()

    @app.post("/machines/{machine_id}/drain", **guarded)
    def drain(machine_id: str, gang: bool = False) -> dict[str, Any]:
        return cloud.drain(machine_id, gang=gang).view()

    @app.post("/machines/{machine_id}/interrupt", **guarded)
    def interrupt(machine_id: str, request: InterruptionRequest) -> dict[str, Any]:
        return cloud.interrupt(machine_id, request.notice_seconds).view()

    @app.get("/machines/{machine_id}/log", response_class=PlainTextResponse, **guarded)
    def log(machine_id: str, tail: Annotated[int, Query(ge=1, le=10_000)] = 100) -> str:
        return cloud.log(machine_id, tail)

    @app.get("/machines/{machine_id}/lines", **guarded)
    def lines(
        machine_id: str,
        tail: Annotated[int, Query(ge=1, le=10_000)] = 100,
        after: Annotated[str, Query(pattern=r"^(\d{1,20}-\d{1,20})?$")] = "",
    ) -> dict[str, Any]:
        page = cloud.lines(machine_id, tail, after)
        return {"lines": page.lines, "after": page.after, "truncated": page.truncated}

    @app.get("/interruptions", **guarded)
    def interruptions(after: Annotated[int, Query(ge=0)] = 0) -> dict[str, Any]:
        return {
            "messages": [
                {"sequence": message.sequence, "notice_seconds": message.notice_seconds, "body": message.body}
                for message in cloud.messages(after)
            ]
        }

    @app.get("/market", **guarded)
    def show_market() -> dict[str, Any]:
        return {
            "denied": market.denied,
            "zones_replayed": sorted(market.traces),
            "synthetic": market.synthetic is not None,
            "speed": market.speed,
            "replayed_hours": cloud.replayed_hours(),
            "notice_seconds": market.replay_notice_seconds(),
        }

    @app.put("/market", **guarded)
    def change_market(request: MarketRequest) -> dict[str, Any]:
        cloud.deny(request.denied)
        return show_market()

    @app.get("/prices", **guarded)
    def prices(capacity_type: CapacityType = "spot") -> dict[str, Any]:
        return {"observed_at": iso(time.time()), "prices": cloud.prices(capacity_type)}

    @app.get("/faults", **guarded)
    def show_faults() -> FaultsRequest:
        return faults.left()

    @app.put("/faults", **guarded)
    def change_faults(request: FaultsRequest) -> FaultsRequest:
        faults.tell(request)
        return faults.left()

    return app


async def _tick_for_ever(cloud: Cloud) -> None:
    while True:
        # Killing a pod waits for its end, so the tick stays off the event loop.
        await asyncio.to_thread(cloud.tick)
        await asyncio.sleep(TICK_SECONDS)
