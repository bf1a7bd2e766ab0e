"""What the gateway knows of a dataset and of a model when it resolves a request. Pure values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

TEXT_TO_IMAGE = "text-to-image"  # a task of models, and a format of datasets
IMAGE_CLASSIFICATION = "image-classification"
# By the end of what a configuration names as the model's class: the task, in the words of the Hugging Face Hub.
TASKS = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForSequenceClassification": "text-classification",
    "ForImageClassification": IMAGE_CLASSIFICATION,
    "StableDiffusionPipeline": TEXT_TO_IMAGE,
}


@dataclass(frozen=True, slots=True)
class Dataset:
    dataset_id: str
    tenant_id: str
    name: str
    version: int
    uri: str
    format: str  # as the contract's DatasetRef.format
    rows: int
    bytes: int
    sha256: str
    estimated_tokens: int
    created_at: datetime
    report: dict[str, Any] = field(default_factory=dict)  # datareport.Report; empty for those that are older than it
    lineage: dict[str, Any] | None = None  # DatasetLineage, as JSON; None: it was uploaded
    filename: str = ""  # of the upload, if it had one

    @property
    def labels(self) -> list[str]:
        """Of a classification, in order."""
        return list(self.report.get("labels", ()))


@dataclass(frozen=True, slots=True)
class Checked:
    """What the files of an uploaded model say of it."""

    config_json: str
    parameters: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Model:
    """A foundation model, a model of the user's own, or a trained version of one.

    `version` is 0 for a foundation model. `artifact_uri` is empty unless it is an adapter on the base. Of origin
    "code", `base_uri` is the zip with model.py and data.py, and there are no weights to serve.
    """

    model_id: str
    name: str
    version: int
    origin: str  # "builtin" | "uploaded" | "trained" | "code"
    base_model_id: str
    base_uri: str
    artifact_uri: str
    config_json: str
    available: bool
    created_at: datetime
    parameters: int = 0
    bytes: int = 0  # of all its files; 0: nobody counted
    licence: str = ""
    hub_id: str = ""
    method: str = ""
    job_id: str = ""
    dataset_uri: str = ""
    eval_loss_before: float | None = None
    eval_loss_after: float | None = None

    @property
    def id(self) -> str:
        """What a user writes to mean this one."""
        return self.model_id if self.origin == "builtin" else f"{self.name}@{self.version}"

    @property
    def task(self) -> str:
        """What it is for; empty: its configuration does not tell (an adapter has none of its own)."""
        config = json.loads(self.config_json or "{}")
        named = config.get("_class_name") or next(iter(config.get("architectures") or []), "")
        return next((task for end, task in TASKS.items() if str(named).endswith(end)), "")

    @property
    def context_tokens(self) -> int | None:
        """How long a text it reads and writes together; None: its configuration does not tell."""
        config = json.loads(self.config_json or "{}")
        told = config.get("max_position_embeddings", config.get("n_positions"))
        return told if isinstance(told, int) else None
