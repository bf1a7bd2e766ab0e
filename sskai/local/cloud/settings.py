"""What the simulated cloud is told by `SSKAI_*` variables, and the market that follows from them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from sskai.local.cloud.market import Market, Zones, read_prices
from sskai.local.cloud.records import read_traces
from sskai.local.cloud.synthetic import Synthetic
from sskai.local.paths import home_folder


class Settings(BaseSettings):
    """Where the cloud serves and what it plays; docs/guides/market.md tells the market's ones. Empty is unset."""

    model_config = SettingsConfigDict(env_prefix="SSKAI_", env_ignore_empty=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = 8090
    cloud_token: SecretStr = Field(min_length=16)
    cloud_folder: Path = Field(default_factory=lambda: home_folder() / "cloud")
    cloud_catalogue: Path | None = None  # the price table (CSV)

    market_trace: Path | None = None  # a record, or a folder of them
    market_synthetic: str = ""  # "mean_up=2h,mean_down=30m,seed=7": a market without records
    market_zones: str = ""  # "use1-az1=us-east-1a,...": who replays which record; empty: everybody some record
    market_speed: float = Field(default=1.0, gt=0, allow_inf_nan=False)  # record seconds per real second
    market_offset_hours: float = Field(default=0.0, ge=0, allow_inf_nan=False)  # where in the record it starts
    market_each: int = Field(default=1, ge=1, le=1000)  # machines that one recorded instance stands for
    market_notice_seconds: float | None = Field(default=None, ge=0, le=3600)  # real ones; None: 120 s at this speed
    market_rebalance_seconds: float = Field(default=0.0, ge=0, le=3600)  # real ones before a fall; 0: no such hints
    # "relative": the price table times what the record says of its own median; "recorded": the record's dollars.
    market_prices: Literal["relative", "recorded"] = "relative"


def build_market(settings: Settings) -> Market:
    """The market as told. Raises ValueError that names the setting or the file, and what is wrong with it."""
    if settings.market_trace is not None and settings.market_synthetic:
        raise ValueError("SSKAI_MARKET_TRACE and SSKAI_MARKET_SYNTHETIC are two markets: set one of them")
    if settings.market_prices == "recorded" and settings.market_trace is None:
        raise ValueError("SSKAI_MARKET_PRICES=recorded takes a record with prices: set SSKAI_MARKET_TRACE")
    traces = read_traces(settings.market_trace) if settings.market_trace is not None else {}
    return Market(
        prices=read_prices(settings.cloud_catalogue) if settings.cloud_catalogue is not None else (),
        traces=traces,
        synthetic=Synthetic.parse(settings.market_synthetic) if settings.market_synthetic else None,
        zones=Zones.parse(settings.market_zones, traces),
        speed=settings.market_speed,
        offset_seconds=settings.market_offset_hours * 3600,
        each=settings.market_each,
        notice_seconds=settings.market_notice_seconds,
        rebalance_seconds=settings.market_rebalance_seconds,
        recorded_prices=settings.market_prices == "recorded",
    )
