"""deploy/Dockerfile: what a stage installs and copies is enough for its programs."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import grimp
import pytest
from packaging.requirements import Requirement

from sskai.database import SERVICES
from tools.compose import ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
PROGRAMS = {name: ["services.__main__", f"services.{name}.main"] for name in SERVICES}
PROGRAMS["trainer"] += ["services.trainer.pod", "services.trainer.workers"]
PROGRAMS["inference"] += ["services.inference.replica.__main__"]
PROGRAMS["optimizer"] += ["services.optimizer.profile"]


def steps(stage: str) -> list[str]:
    """Of a stage and those that it is made from."""
    found = re.search(rf"^FROM (\S+) AS {stage}$(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    if found is None:
        return []
    return [*steps(found[1]), *found[2].replace("\\\n", " ").splitlines()]


def requirements(stage: str) -> list[Requirement]:
    """What its calls of requirements.py print."""
    calls = [found[1].split() for step in steps(stage) if (found := re.search(r"python requirements.py([\w ]*)", step))]
    printed = [
        subprocess.run(
            [sys.executable, "deploy/requirements.py", *extras], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout
        for extras in calls
    ]
    return [Requirement(line) for text in printed for line in text.splitlines()]


def installed_by(wanted: list[Requirement]) -> set[str]:
    """The distributions that these bring, dependencies included."""
    done: set[tuple[str, str]] = set()
    todo = [(one.name, extra) for one in wanted for extra in ("", *one.extras)]
    while todo:
        name, extra = todo.pop()
        if (key := (normal(name), extra)) in done:
            continue
        done.add(key)
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        for one in map(Requirement, needs):
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                todo += [(one.name, more) for more in ("", *one.extras)]
    return {name for name, _ in done}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    """Who imports what, also inside of functions."""
    return grimp.build_graph(
        "sskai", "services", include_external_packages=True, exclude_type_checking_imports=True, cache_dir=None
    )


@pytest.mark.parametrize("stage", SERVICES)
def test_a_services_programs_need_no_more_than_its_image_has(stage: str, imports: grimp.ImportGraph) -> None:
    needed = set(PROGRAMS[stage])
    for program in PROGRAMS[stage]:
        needed |= imports.find_upstream_modules(program)
    copied = {found[1] for step in steps(stage) if (found := re.fullmatch(r"COPY (s\S+) \1", step))}
    assert copied == {"sskai", f"services/{stage}"}
    assert "COPY services/__init__.py services/__main__.py services/" in steps(stage)
    ours = {name for name in needed if name.split(".")[0] in ("sskai", "services")}
    of_services = {name for name in ours if name.startswith("services.")} - {"services.__main__"}
    assert {name.split(".")[1] for name in of_services} == {stage}
    owners = importlib.metadata.packages_distributions()
    libraries = {normal(owners[name][0]) for name in needed - ours if name in owners}
    assert {"pydantic", "sqlalchemy"} <= libraries
    assert libraries - installed_by(requirements(stage)) == set()


@pytest.mark.parametrize("stage", [*SERVICES, "cloud", "cloud-gpu"])
def test_a_stage_ends_without_rights(stage: str) -> None:
    users = [step for step in steps(stage) if step.startswith("USER ")]
    assert users[-1] == "USER 10001"
    assert any(step.startswith("HEALTHCHECK ") for step in steps(stage))


def test_only_who_computes_has_torch() -> None:
    with_torch = {name for name in SERVICES if "torch" in installed_by(requirements(name))}
    assert with_torch == {"optimizer", "trainer", "inference"}
