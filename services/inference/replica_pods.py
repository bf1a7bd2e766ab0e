"""What a replica's pod is told. Pure."""

from __future__ import annotations

import json

from services.inference.domain import Endpoint
from services.inference.replica_set import Replica
from services.inference.settings import Settings
from sskai import telemetry
from sskai.cluster import Pod, pods


def engine_of(wish: str, replica: Replica) -> str:
    """Without a wish: vLLM where there is an accelerator."""
    return wish or ("vllm" if replica.placement.accelerator_count else "embedded")


def pod(
    replica: Replica,
    endpoint: Endpoint,
    token: str,
    settings: Settings,
    *,
    engine: str,
    manifest_sha256: str | None,
    keep_ready: int,
) -> Pod:
    """services/inference/README.md has the variables. The weights are the replica's: the endpoint's may be newer."""
    base_uri, artifact_uri = replica.weights
    env = {
        "SSKAI_REPLICA_ID": replica.replica_id,
        "SSKAI_REPLICA_HOME": settings.replica_home or settings.inference_url,
        "SSKAI_REPLICA_TOKEN": token,
        "SSKAI_REPLICA_ENDPOINT": json.dumps(
            {
                "endpoint_id": endpoint.endpoint_id,
                "base_uri": base_uri,
                "artifact_uri": artifact_uri,
                "manifest_sha256": manifest_sha256,
                "engine": engine_of(engine, replica),
            }
        ),
        **pods.objects(settings),
        "SSKAI_OTLP_URL": settings.otlp_url or "",
        "SSKAI_MODELS_DIR": str(settings.models_dir),
        # A container can write below /tmp alone.
        "SSKAI_CACHE": str(settings.cache) if settings.cluster == "local" else "/tmp/sskai",  # noqa: S108
        "SSKAI_LOG_LEVEL": settings.log_level,
        "TRACEPARENT": telemetry.current_traceparent() or "",
    }
    return Pod(endpoint.endpoint_id, endpoint.tenant_id, replica.number, replica.placement, env, keep_ready=keep_ready)
