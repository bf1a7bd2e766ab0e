"""`python -m sskai.local.cloud`: the simulated cloud as a process, told what to do by `SSKAI_*` variables."""

from __future__ import annotations

import sys
import time

import uvicorn

from sskai.local.cloud.api import create_app
from sskai.local.cloud.cloud import Cloud
from sskai.local.cloud.settings import Settings, build_market


def main() -> None:
    """Serve until SIGTERM. Pods go on without it and are found again at the next start."""
    try:
        settings = Settings()
        market = build_market(settings)
    except ValueError as error:
        sys.exit(f"the simulated cloud cannot start: {error}")
    settings.cloud_folder.mkdir(parents=True, exist_ok=True)
    cloud = Cloud(settings.cloud_folder, market, time.time)
    app = create_app(cloud, market, settings.cloud_token.get_secret_value())
    uvicorn.run(
        app, host=settings.host, port=settings.port, access_log=False, log_level="warning", timeout_graceful_shutdown=2
    )


if __name__ == "__main__":
    main()
