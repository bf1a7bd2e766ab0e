"""Checks docker-compose.yaml and deploy/Dockerfile without an engine: Compose accepts every way to start, hadolint the
Dockerfile, and what the compose file names, promises and leaves open follows our own rules."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sskai.database import SERVICES
from tools import compose

ROOT = compose.ROOT
# Its image has no program that could ask; an agent of k3s is asked by the server.
NO_HEALTH_CHECK = {"collector", "k3s-spot"}


def problems(ways: dict[str, dict[str, Any]], dockerfile: str) -> list[str]:
    """What is wrong, in words, each once. `ways`: the resolved file by COMPOSE_PROFILES."""
    found: dict[str, None] = {}
    stages = set(re.findall(r"^FROM .* AS (\S+)$", dockerfile, re.MULTILINE))
    for way, document in ways.items():
        services: dict[str, Any] = document["services"]
        built = {one["image"] for one in services.values() if "build" in one}
        names = {alias for name, one in services.items() for alias in (name, *_aliases(one))}
        found |= dict.fromkeys(f"{way}: the service {name} is missing" for name in SERVICES if name not in names)
        for name, service in services.items():
            found |= dict.fromkeys(f"{name}: {problem}" for problem in _of_service(name, service, stages, built))
    return list(found)


def _aliases(service: dict[str, Any]) -> list[str]:
    return [alias for network in service["networks"].values() for alias in (network or {}).get("aliases", [])]


def _of_service(name: str, service: dict[str, Any], stages: set[str], built: set[str]) -> Iterator[str]:
    if "build" in service:
        if service["build"].get("target") not in stages:
            yield f"deploy/Dockerfile has no stage {service['build'].get('target')}"
    elif service["image"].startswith("sskai/") and service["image"] not in built:
        yield f"nothing builds {service['image']}"
    if not re.search(r":v?\d+\.\d+[\w.-]*$", service["image"]):
        yield "the image has no pinned tag"
    once = service.get("restart") == "no"
    if not once and "test" not in service.get("healthcheck", {}) and name not in NO_HEALTH_CHECK:
        yield "no health check"
    if "mem_limit" not in service:
        yield "no memory limit"
    if not service.get("logging", {}).get("options", {}).get("max-size"):
        yield "its log may grow without limit"
    if service["image"].startswith("sskai/") and not (service.get("read_only") and service.get("cap_drop") == ["ALL"]):
        yield "ours, and may write to its root or has capabilities"
    for port in service.get("ports", []):
        if port.get("host_ip") != "127.0.0.1":
            yield f"publishes {port['target']} beyond this machine"
    for volume in service.get("volumes", []):
        if volume["type"] == "bind" and not Path(volume["source"]).exists():
            yield f"{volume['source']} is not there"


def environment_problems(asked: set[str], explained: set[str]) -> list[str]:
    """Of .env.example, against what the compose file asks for."""
    missing = [f".env.example does not explain {name}" for name in sorted(asked - explained)]
    return missing + [f".env.example explains {name}, which nothing asks for" for name in sorted(explained - asked)]


def lint(dockerfile: Path) -> list[str]:
    """What hadolint says of it."""
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [str(program), "--no-color", str(dockerfile)], capture_output=True, text=True, timeout=60, check=False
    )
    return [line for line in (done.stdout + done.stderr).splitlines() if line] if done.returncode else []


def main() -> int:
    dockerfile = ROOT / "deploy" / "Dockerfile"
    try:
        found = problems(compose.every_way(), dockerfile.read_text())
    except compose.ComposeError as refusal:
        found = [str(refusal)]
    found += environment_problems(compose.variables_asked(), compose.variables_explained() - {"COMPOSE_PROFILES"})
    found += lint(dockerfile)
    for problem in found:
        print(f"compose: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
