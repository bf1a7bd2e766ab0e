"""What answers about files, uploads and fine-tuning look like: OpenAI's fields and ours; see `shapes.py`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from services.gateway.api.shapes import Free
from services.gateway.domain import JobState
from services.gateway.uploads import UploadState


class File(BaseModel):
    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: Literal["fine-tune"]
    status: Literal["processed"]
    status_details: str | None
    dataset: str
    format: str
    rows: int


class Upload(BaseModel):
    id: str
    object: Literal["upload"]
    bytes: int
    created_at: int
    filename: str
    purpose: Literal["fine-tune"]
    status: UploadState
    expires_at: int
    file: File | None
    name: str
    part_bytes: int
    problem: Free | None


class UploadPart(BaseModel):
    id: str
    object: Literal["upload.part"]
    created_at: int
    upload_id: str
    part_number: int
    bytes: int
    etag: str


class UploadWithParts(Upload):
    parts: list[UploadPart]


class PartUrl(BaseModel):
    part_number: int
    part_id: str
    bytes: int
    method: Literal["PUT"]
    url: str


class PartUrls(BaseModel):
    object: Literal["list"]
    data: list[PartUrl]
    expires_at: int


class FineTuneError(BaseModel):
    code: str
    message: str
    param: str | None


class FineTuneOurs(BaseModel):
    """What OpenAI has no fields for; the rest stands at `/v1/jobs/ID`."""

    state: JobState
    name: str
    deploy: bool
    endpoint_id: str | None
    spent_usd: float


class FineTune(BaseModel):
    id: str
    object: Literal["fine_tuning.job"]
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    model: str
    fine_tuned_model: str | None
    status: Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
    error: FineTuneError | None
    organization_id: str
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    hyperparameters: Free
    method: Free
    seed: int
    integrations: list[Free] | None
    metadata: dict[str, str] | None
    suffix: str | None
    sskai: FineTuneOurs


class FineTuneEvent(BaseModel):
    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: Free


class FineTuneCheckpoint(BaseModel):
    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    step_number: int
    metrics: Free
    bytes: int
    cause: str
