"""What the gateway is told from outside, beyond the chassis."""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import gettempdir
from typing import Literal

from pydantic import Field, SecretStr, field_validator

import sskai.settings
from services.gateway import webhooks
from services.gateway.webhooks import Network

MIB = 1024 * 1024
GIB = 1024 * MIB


class Settings(sskai.settings.Settings):
    # The first key: it may do everything for `tenant_default` and makes keys for other tenants. Empty: there is none.
    admin_key: SecretStr = SecretStr("")
    # Where browsers find the gateway, if that is not where requests say that they were sent: "https://sskai.acme.com".
    public_url: str = ""
    spool_dir: Path = Path(gettempdir())  # uploads lie here until they were checked
    console_dir: Path = Path(__file__).parents[2] / "console/dist"  # what `make console` built

    # Web pages that may read answers: "https://app.example.com,https://other.example.com"; empty: none of elsewhere.
    allowed_origins: str = ""
    api_documents: bool = True  # /docs, /openapi.json and /asyncapi.yaml are shown

    max_body_bytes: int = Field(default=1 * MIB, gt=0)  # of every request but the uploads
    max_tensors_bytes: int = Field(default=8 * MIB, gt=0)  # of a request to /v2/models: pictures, arrays
    max_dataset_bytes: int = Field(default=2 * GIB, gt=0)
    max_model_bytes: int = Field(default=32 * GIB, gt=0)
    # Files that come in parts: of one, and of all of a tenant that are not complete.
    max_upload_bytes: int = Field(default=50 * GIB, gt=0)
    max_open_uploads_per_tenant: int = Field(default=100, gt=0)
    max_open_upload_bytes_per_tenant: int = Field(default=200 * GIB, gt=0)
    upload_lifetime_hours: float = Field(default=24, gt=0)
    upload_checked_at_once_bytes: int = Field(default=64 * MIB, ge=0)  # by the request that completes it; else later
    upload_wait_seconds: float = Field(default=20, ge=0)  # how long its request waits for the check of a larger one
    upload_retention_days: float = Field(default=30, gt=0)  # of what is known of one that is over
    objects_public_url: str = ""  # what users reach the object store by; empty: as the services do

    # What a tenant may ask for; the scheduler's quotas decide what of it runs at the same time.
    max_active_jobs_per_tenant: int = Field(default=1_000, gt=0)
    max_accelerators_per_job: int = Field(default=64, ge=0)
    max_usd_per_hour_per_job: float | None = Field(default=None, gt=0)  # None: as the job says
    max_epochs_per_job: float = Field(default=1_000, gt=0)

    plan_wait_seconds: float = Field(default=20, ge=0)  # how long a plan's or a replay's request waits for its answer
    # How long a chat request is tried again while inference restarts, as long as nothing of the answer was sent.
    inference_retry_seconds: float = Field(default=30, ge=0)
    # Requests to the API, but those to inference: of one caller, and of all together.
    api_requests_per_second: float = Field(default=60, gt=0)
    api_request_burst: int = Field(default=300, gt=0)
    max_api_requests_under_way: int = Field(default=128, gt=0)
    # Requests to inference: of one key, and of all together. What is over them is refused with Retry-After.
    requests_per_second_per_key: float = Field(default=100, gt=0)
    request_burst_per_key: int = Field(default=1_000, gt=0)
    max_concurrent_requests_per_key: int = Field(default=1_000, gt=0)
    max_concurrent_requests: int = Field(default=2_000, gt=0)
    max_waiting_requests: int = Field(default=1_000, ge=0)  # of them for an inference that is away
    inference_timeout_seconds: float = Field(default=300, gt=0)  # silence of inference in the middle of an answer

    max_event_streams_per_tenant: int = Field(default=20, gt=0)
    heartbeat_seconds: float = Field(default=10, gt=0)  # comments on a silent event stream
    event_retention_days: float = Field(default=7, gt=0)
    max_events: int = Field(default=1_000_000, gt=0)
    plan_retention_days: float = Field(default=90, gt=0)  # as long as the optimizer keeps what a replay needs
    # Of the prices and notices that timelines show.
    market_retention_days: float = Field(default=14, gt=0)
    max_prices: int = Field(default=1_000_000, gt=0)
    idempotency_retention_hours: float = Field(default=48, gt=0)

    # What is kept of sampled requests and feedback, and how much of a dataset may be made of it.
    traffic_rows_per_endpoint: int = Field(default=20_000, gt=0)
    traffic_retention_days: float = Field(default=30, gt=0)
    traffic_share: float = Field(default=0.5, gt=0, le=0.95)  # at most, of a dataset's rows
    traffic_minimum_rows: int = Field(default=20, ge=1)  # new ones; fewer are not worth another version

    # Webhooks: how long an answer may take, for how long deliveries are shown, and which addresses that are not public
    # may be called: "10.1.0.0/16,127.0.0.1", also by http.
    webhook_seconds: float = Field(default=15, gt=0)
    webhook_retention_days: float = Field(default=14, gt=0)
    webhook_allowed_networks: str = ""

    # Signing in with an identity provider (OpenID Connect). Empty issuer: with keys only.
    oidc_issuer: str = ""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")
    oidc_name: str = "Single sign-on"  # what the sign-in page calls it
    oidc_audience: str = ""  # of bearer tokens; empty: the client's id
    sign_up: Literal["invited", "open"] = "invited"  # open: whoever the provider knows may come in and make projects

    @field_validator("webhook_allowed_networks")
    @classmethod
    def _networks(cls, value: str) -> str:
        webhooks.networks(value)
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: str) -> str:
        for origin in _listed(value):
            if not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?", origin):
                raise ValueError(f"{origin!r}: write scheme and host alone, as https://app.example.com")
        return value

    @property
    def origins(self) -> list[str]:
        return _listed(self.allowed_origins)

    @property
    def webhook_allowed(self) -> tuple[Network, ...]:
        return webhooks.networks(self.webhook_allowed_networks)


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
