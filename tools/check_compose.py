"""Checks docker-compose.yaml without an engine: it parses, and what it names is there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from sskai.database import SERVICES

ROOT = Path(__file__).parents[1]


def problems(compose: dict[str, Any]) -> list[str]:
    """What is wrong, in words."""
    found = []
    services: dict[str, Any] = compose["services"]
    found += [f"the service {name} is missing" for name in SERVICES if name not in services]
    for name, service in services.items():
        tag = service.get("image", "").rpartition(":")[2]
        if "build" not in service and tag in ("", "latest", service.get("image", "")):
            found.append(f"{name}: the image has no pinned tag")
        found += [
            f"{name}: depends on {other}, which is not there"
            for other in service.get("depends_on", {})
            if other not in services
        ]
        if "build" in service and not (ROOT / service["build"]["dockerfile"]).exists():
            found.append(f"{name}: {service['build']['dockerfile']} is not there")
        if name in SERVICES and "healthcheck" not in service:
            found.append(f"{name}: no health check")
    return found


def main() -> int:
    found = problems(yaml.safe_load((ROOT / "docker-compose.yaml").read_text()))
    for problem in found:
        print(f"docker-compose.yaml: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
