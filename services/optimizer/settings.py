"""What the optimizer is told from outside."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

import sskai.settings
from services.optimizer import catalogue, prices
from services.optimizer.values import Assumptions
from sskai import sandbox
from sskai.sandbox import Walls


class Settings(sskai.settings.Settings):
    """Lists are written with commas: `SSKAI_OFFERED_INSTANCE_TYPES=c5.*,m5.*`."""

    # Shell patterns; a local cluster that plays CPU machines offers only those.
    offered_instance_types: Annotated[tuple[str, ...], NoDecode] = ("*",)
    offered_regions: Annotated[tuple[str, ...], NoDecode] = ()  # empty: all of the catalogue
    # From the order of a machine to the first step's code: boot, join the cluster, pull the image, import torch.
    machine_start_seconds: float = 120.0
    max_workers: int = 64  # of one job, one per accelerator: the trainer takes eight machines, and the largest have 8
    denial_seconds: float = 300.0  # how long an offer that had no machine is left out
    profile_limit_seconds: float = 60.0
    # Of one training step of a user's own model on two samples, in the sandbox.
    user_profile_memory_gib: float = 2.0
    # Behind which walls user code may run, the first that there is. "limits": without any (see sskai/sandbox.py).
    sandbox_walls: Annotated[tuple[Walls, ...], NoDecode] = sandbox.CLOSED
    plan_retention_days: float = 90.0
    planning_poll_seconds: float = 1.0  # only when an event's wake-up was missed
    price_moves_seconds: float = 60.0  # how often jobs that wait are held against newer prices

    # Live facts and prices come from these regions of AWS, by credentials as boto3 finds them; empty: from nowhere.
    aws_regions: Annotated[tuple[str, ...], NoDecode] = ()
    aws_endpoint_url: str = ""  # empty: the real AWS
    # Types whose spot placement score is asked for, all in one question; AWS scores fewer than three badly.
    aws_scored_types: Annotated[tuple[str, ...], NoDecode] = Field((), max_length=20)
    price_refresh_seconds: float = Field(300.0, gt=0)
    price_stale_seconds: float = Field(prices.STALE_SECONDS, gt=0)

    # Types that this computer plays; none where machines are rented.
    local_machine_types: Annotated[tuple[str, ...], NoDecode] = ()
    local_price_seconds: float = Field(5.0, gt=0)  # how often the simulated cloud is asked for prices that move
    trainer_threads: int = Field(os.cpu_count() or 1, ge=1)  # what a pod computes with, as the trainer's setting says

    @field_validator(
        "offered_instance_types",
        "offered_regions",
        "aws_regions",
        "aws_scored_types",
        "local_machine_types",
        "sandbox_walls",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("local_machine_types")
    @classmethod
    def _playable(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not catalogue.playable(name):
                known = sorted(filter(catalogue.playable, catalogue.snapshot().machines))
                raise ValueError(f"this computer cannot play {name!r}: name some of {', '.join(known)}")
        return names

    @property
    def assumptions(self) -> Assumptions:
        return Assumptions(
            self.offered_instance_types,
            self.offered_regions,
            self.machine_start_seconds,
            max_workers=self.max_workers,
            objects_region=self.objects_region,
            price_stale_seconds=self.price_stale_seconds,
        )
