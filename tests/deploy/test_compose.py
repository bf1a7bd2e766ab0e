"""docker-compose.yaml: what `make check` would find in it, and the `.env` that a user gets."""

from __future__ import annotations

import copy
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tools import check_compose, compose

DOCKERFILE = (compose.ROOT / "deploy" / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def ways() -> dict[str, dict[str, Any]]:
    return compose.every_way()


def test_it_is_right_as_it_stands(ways: dict[str, dict[str, Any]]) -> None:
    assert check_compose.problems(ways, DOCKERFILE) == []
    assert {"cloud", "inference"} <= ways["cpu"]["services"].keys()
    assert {"cloud-gpu", "inference-gpu"} <= ways["gpu"]["services"].keys()
    assert not {"cloud", "inference"} & ways["gpu"]["services"].keys()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda all_: all_.pop("trainer"), "the service trainer is missing"),
        (lambda all_: all_["kafka"].update(image="apache/kafka"), "kafka: the image has no pinned tag"),
        (lambda all_: all_["kafka"].update(image="apache/kafka:latest"), "kafka: the image has no pinned tag"),
        (lambda all_: all_["gateway"].pop("healthcheck"), "gateway: no health check"),
        (lambda all_: all_["grafana"].pop("mem_limit"), "grafana: no memory limit"),
        (lambda all_: all_["postgres"].pop("logging"), "postgres: its log may grow without limit"),
        (lambda all_: all_["monitor"].update(read_only=False), "monitor: ours, and may write to its root"),
        (lambda all_: all_["gateway"]["ports"][0].update(host_ip="0.0.0.0"), "gateway: publishes 8000 beyond"),
        (lambda all_: all_["gateway"]["build"].update(target="gate"), "gateway: deploy/Dockerfile has no stage gate"),
        (lambda all_: all_["cloud"].update(image="sskai/clod:0.1"), "cloud: nothing builds sskai/clod:0.1"),
        (lambda all_: all_["prometheus"]["volumes"][0].update(source="/nowhere"), "prometheus: /nowhere is not there"),
    ],
)
def test_each_rule_finds_what_breaks_it(
    ways: dict[str, dict[str, Any]], spoil: Callable[[dict[str, Any]], object], says: str
) -> None:
    spoilt = copy.deepcopy(ways["cpu"])
    spoil(spoilt["services"])
    [problem] = check_compose.problems({"cpu": spoilt}, DOCKERFILE)
    assert says in problem


def test_compose_itself_refuses_what_is_no_compose_file(tmp_path: Path) -> None:
    broken = tmp_path / "docker-compose.yaml"
    broken.write_text(compose.FILE.read_text().replace("mem_limit: 1g", "memory_limit: 1g", 1))
    with pytest.raises(compose.ComposeError, match="memory_limit"):
        compose.resolved("cpu", compose.filled_environment(tmp_path), broken)


def test_without_secrets_it_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("")
    with pytest.raises(compose.ComposeError, match=r"set it in \.env"):
        compose.resolved("cpu", tmp_path / ".env")


def test_a_variable_is_explained_and_asked_for() -> None:
    assert check_compose.environment_problems({"A", "B"}, {"B", "C"}) == [
        ".env.example does not explain A",
        ".env.example explains C, which nothing asks for",
    ]


def test_a_bad_dockerfile_is_found(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian:latest\nRUN cd /tmp\n")
    assert any("DL3007" in line for line in check_compose.lint(bad))


def test_secrets_are_drawn_once_and_what_has_a_value_stays(tmp_path: Path) -> None:
    first = compose.filled_environment(tmp_path).read_text()
    values = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", first, re.MULTILINE))
    assert values.keys() == compose.variables_explained()
    assert all(values.values())
    secrets = [one for name, one in values.items() if re.search(r"PASSWORD|KEY|TOKEN", name)]
    assert len(set(secrets)) == len(secrets) == 8
    assert all(re.fullmatch(r"(sskai_)?[0-9a-f]{48}", one) for one in secrets)
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600
    # An older file: a variable is new, one is changed, one is the user's own.
    older = re.sub(r"^SSKAI_K3S_TOKEN=.*\n", "", first, flags=re.MULTILINE)
    older = older.replace("SSKAI_CLOUD_MEMORY=8g", "SSKAI_CLOUD_MEMORY=32g") + "MINE=a=b\n"
    (tmp_path / ".env").write_text(older)
    again = compose.filled_environment(tmp_path).read_text()
    now = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", again, re.MULTILINE))
    assert now["SSKAI_CLOUD_MEMORY"] == "32g"
    assert now["MINE"] == "a=b"
    assert len(now["SSKAI_K3S_TOKEN"]) == 48
    kept = values.keys() - {"SSKAI_K3S_TOKEN", "SSKAI_CLOUD_MEMORY"}
    assert {name: now[name] for name in kept} == {name: values[name] for name in kept}
    assert compose.filled_environment(tmp_path).read_text() == again
