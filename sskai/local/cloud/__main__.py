"""`python -m sskai.local.cloud`: the simulated cloud as a process, told what to do by `SSKAI_*` variables."""

from __future__ import annotations

import time
from pathlib import Path

import uvicorn
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from sskai.local.cloud.api import create_app
from sskai.local.cloud.cloud import Cloud
from sskai.local.cloud.market import Market, read_prices, read_traces
from sskai.local.paths import home_folder


class Settings(BaseSettings):
    """Where the cloud serves and what it plays.

    `cloud_catalogue`: price table (CSV); `market_trace`: folder of availability records; `market_speed`: replay rate.
    """

    model_config = SettingsConfigDict(env_prefix="SSKAI_", extra="ignore")

    host: str = "127.0.0.1"
    port: int = 8090
    cloud_token: SecretStr = Field(min_length=16)
    cloud_folder: Path = Field(default_factory=lambda: home_folder() / "cloud")
    cloud_catalogue: Path | None = None
    market_trace: Path | None = None
    market_speed: float = Field(default=1.0, gt=0)


def main() -> None:
    """Serve until SIGTERM. Pods go on without it and are found again at the next start."""
    settings = Settings()
    settings.cloud_folder.mkdir(parents=True, exist_ok=True)
    market = Market(speed=settings.market_speed)
    if settings.cloud_catalogue is not None:
        market.prices = read_prices(settings.cloud_catalogue)
    if settings.market_trace is not None:
        market.traces = read_traces(settings.market_trace)
    cloud = Cloud(settings.cloud_folder, market, time.time)
    app = create_app(cloud, market, settings.cloud_token.get_secret_value())
    uvicorn.run(
        app, host=settings.host, port=settings.port, access_log=False, log_level="warning", timeout_graceful_shutdown=2
    )


if __name__ == "__main__":
    main()
