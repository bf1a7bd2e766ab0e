"""What every service is told from outside: `SSKAI_*` environment variables. Services add their own in `settings.py`."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """URLs and secrets of the parts around a service. The defaults fit `docker-compose.yaml`'s host ports."""

    model_config = SettingsConfigDict(env_prefix="SSKAI_", extra="ignore")

    kafka_bootstrap: str = "127.0.0.1:9092"
    database_url: SecretStr = SecretStr("postgresql+psycopg://sskai:sskai@127.0.0.1:5432/sskai")
    objects_url: str = "http://127.0.0.1:8333"
    objects_bucket: str = "sskai"
    objects_access_key: str = "sskai"
    objects_secret_key: SecretStr = SecretStr("sskai-secret")

    # Names this replica among those of its service, the same after a restart ("0", a StatefulSet's pod name); may be
    # empty: then a killed replica's partitions move only when the broker has missed it for 10 s.
    instance: str = ""
    host: str = "127.0.0.1"
    port: int = 0
    # Where spans go, and who answers the gateway's questions about traces: the monitor.
    otlp_url: str | None = None
    gateway_url: str = "http://127.0.0.1:8000"
    inference_url: str = "http://127.0.0.1:8005"
    scheduler_url: str = "http://127.0.0.1:8003"
    # Proves that a request to inference, the monitor or the scheduler comes from our own gateway.
    internal_token: SecretStr = SecretStr("")

    cloud_url: str | None = None
    cloud_token: SecretStr = SecretStr("")
    models_dir: Path = Path("/var/cache/sskai/models")
    log_level: str = "INFO"
