"""What the trainer is told from outside: the service, and the pod of one attempt."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from pydantic import AwareDatetime, BaseModel, Field, field_validator

import sskai.settings
from services.trainer.domain import Awaited, Plan
from sskai.events import v1 as events


class Settings(sskai.settings.Settings):
    """The service's."""

    # A user may still want to look at, or go on from, the checkpoints of a job that has just ended.
    checkpoint_retention_hours: float = Field(default=24.0, ge=0)


class Previous(BaseModel):
    """The last step that an earlier attempt told, and when."""

    attempt: int
    step: int
    at: datetime


class Awaits(BaseModel):
    """The earlier attempt that still drains on its machine, which is gone at `until`."""

    attempt: int = Field(ge=1)
    until: AwareDatetime


class PodSettings(sskai.settings.Settings):
    """The environment that the scheduler gives a pod (`SSKAI_` and the name)."""

    job_id: str = Field(min_length=1)
    tenant_id: str = Field(min_length=1)
    attempt: int = Field(ge=1)
    machine_id: str = ""
    job_spec: str  # JobSpec in protobuf's JSON
    plan: str = "{}"  # JSON, see domain.Plan
    work_uri: str  # s3://BUCKET/jobs/JOB_ID
    previous: Previous | None = None
    awaits: Awaits | None = None  # stand by until that attempt has ended
    # On a CPU the number of threads is part of the result, so a resumed attempt keeps its predecessor's.
    trainer_threads: int = Field(default=os.cpu_count() or 1, ge=1)
    # Processes on this machine; 0: one for each of its GPUs, one without any.
    trainer_workers: int = Field(default=0, ge=0, le=64)
    gang_secret: str = ""  # what agent.py gives its workers: by it they know each other's fence
    gang_folder: Path | None = None  # and where they say how they ended
    # 0: at a few hundred rows and 3 epochs it costs more time on a CPU than it saves loss.
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    # Whether a model as code gets what its requirements.txt asks for beyond what the pod has: needs a package index.
    trainer_install_requirements: bool = True
    # Of the comparison with the champion, which reads each held-out row twice; the pod is paid for meanwhile.
    trainer_compare_rows: int = Field(default=64, ge=0)  # 0: nothing is compared
    trainer_compare_seconds: float = Field(default=300.0, gt=0)
    work_dir: Path | None = None  # None: a temporary folder, removed at the end
    # How long an attempt waits for an object store that is away, and its result for that or the broker.
    unavailable_seconds: float = Field(default=600.0, gt=0)

    @field_validator("previous", "awaits", mode="before")
    @classmethod
    def _nothing_is_none(cls, value: Any) -> Any:
        return value or None

    def spec(self) -> events.JobSpec:
        """Raises ValueError."""
        try:
            return json_format.Parse(self.job_spec, events.JobSpec(), ignore_unknown_fields=True)
        except json_format.ParseError as error:
            raise ValueError(f"SSKAI_JOB_SPEC is not a JobSpec: {error}") from error

    def work_key(self) -> str:
        """Where in the bucket the job's objects lie. Raises ValueError."""
        from sskai.objects import key_of

        try:
            return key_of(self.objects_bucket, self.work_uri)
        except ValueError as error:
            raise ValueError(f"SSKAI_WORK_URI: {error}") from error

    def awaited(self) -> Awaited | None:
        return Awaited(self.awaits.attempt, self.awaits.until) if self.awaits else None

    def planned(self) -> Plan:
        """Raises ValueError."""
        try:
            return Plan.from_json(json.loads(self.plan))
        except (TypeError, AttributeError) as error:
            raise ValueError(f"SSKAI_PLAN is not a plan: {error}") from error
