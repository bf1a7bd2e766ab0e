"""What every service is told from outside: `SSKAI_*` environment variables. Services add their own in `settings.py`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

S = TypeVar("S", bound="Settings")


class Settings(BaseSettings):
    """URLs and secrets of the parts around a service. The defaults fit `docker-compose.yaml`'s host ports."""

    model_config = SettingsConfigDict(env_prefix="SSKAI_", extra="ignore")

    kafka_bootstrap: str = "127.0.0.1:9092"
    # What the broker asks of its clients. SASL_* needs a name and a password; *SSL trusts the system's authorities, or
    # the certificates in `kafka_ca_pem` alone.
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_username: str = ""
    kafka_password: SecretStr = SecretStr("")
    kafka_ca_pem: str = ""
    database_url: SecretStr = SecretStr("postgresql+psycopg://sskai:sskai@127.0.0.1:5432/sskai")
    objects_url: str = "http://127.0.0.1:8333"  # empty: AWS's own endpoint of the region
    objects_bucket: str = "sskai"
    objects_region: str = ""  # where data and checkpoints are; empty: traffic between regions is in no estimate
    objects_access_key: str = "sskai"  # empty: credentials as boto3 finds them (a role)
    objects_secret_key: SecretStr = SecretStr("sskai-secret")

    # Names this replica among those of its service, the same after a restart ("0", a StatefulSet's pod name); may be
    # empty: then a killed replica's partitions move only when the broker has missed it for 10 s.
    instance: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    # Where spans go: to the monitor itself, or to a collector that hands them to it over Kafka.
    otlp_url: str | None = None
    # Who answers the gateway's questions about traces, costs and drift: the monitor. Unset: where spans go.
    monitor_url: str | None = None
    gateway_url: str = "http://127.0.0.1:8000"
    inference_url: str = "http://127.0.0.1:8005"
    scheduler_url: str = "http://127.0.0.1:8003"
    # Proves that a request to inference, the monitor or the scheduler comes from our own gateway.
    internal_token: SecretStr = SecretStr("")

    cloud_url: str | None = None
    cloud_token: SecretStr = SecretStr("")
    models_dir: Path = Path("/var/cache/sskai/models")
    log_level: str = "INFO"


def beneath_environment(kind: type[S], told: Mapping[str, str]) -> S:
    """By variables that somebody tells; what the process's own environment says wins."""
    names = {f"SSKAI_{name.upper()}": name for name in kind.model_fields}
    values: dict[str, Any] = {
        names[variable]: value for variable, value in told.items() if variable in names and variable not in os.environ
    }
    return kind(**values)
