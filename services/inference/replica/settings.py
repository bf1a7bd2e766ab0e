"""What a replica's pod is told from outside: the service's own settings, and these. All by `SSKAI_*`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

import services.inference.settings


class ReplicaEndpoint(BaseModel):
    """The endpoint that this replica serves; `artifact_uri` empty: the base itself."""

    model_config = ConfigDict(extra="forbid")

    endpoint_id: str = Field(min_length=1)
    base_uri: str = ""
    artifact_uri: str = ""
    manifest_sha256: str | None = None
    engine: Literal["embedded", "vllm"] = "embedded"


class ReplicaSettings(services.inference.settings.Settings):
    """Access to the object store is told as to every pod."""

    replica_id: str = Field(min_length=1)
    replica_home: str = Field(pattern=r"^https?://")  # the inference service
    replica_token: SecretStr = Field(min_length=16)  # proves both to each other
    replica_endpoint: ReplicaEndpoint  # JSON
    # Where the service finds it: this port (0: any), at this address (empty: the one that reaches home).
    replica_port: int = Field(default=0, ge=0, le=65535)
    replica_host: str = ""
    # AWS gives 120 s from the notice to the end; what is not said by then is said by another replica.
    replica_drain_seconds: float = Field(default=90.0, gt=0)
    vllm_command: str = "vllm"  # the program, as found on PATH
    vllm_start_seconds: float = Field(default=900.0, gt=0)  # 70B from disk and CUDA graphs take minutes
