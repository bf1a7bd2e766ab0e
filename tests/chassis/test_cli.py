"""The command line's plans: which command is meant, what is sent, what is printed, and the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from sskai import cli
from sskai.cli import common
from sskai.client import Client
from tests.chassis.plan_documents import endpoint_plan, job_plan, replay
from tests.chassis.timeline_documents import timeline

JOB = "kind: finetune\nname: bot\nmodel: {base: tiny}\ndataset: {uri: support}\nresources: {nodes: 1..4}\n"


class Gateway:
    """Answers each path with one document and remembers what it was sent."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.sent: list[tuple[str, Any]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.sent.append((request.url.path, json.loads(request.read())))
        name = "replay" if request.url.path.endswith("/replay") else "plan"
        return httpx2.Response(200, json=self.answers[name])


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(common, "out", Console(width=120))

    def run(gateway: Gateway, *arguments: str) -> Result:
        transport = httpx2.MockTransport(gateway)
        monkeypatch.setattr(common, "connect", lambda: Client("http://gateway", "sskai_key", transport=transport))
        return CliRunner().invoke(cli.app, ["plan", *arguments])

    return run


@pytest.fixture
def job_path(tmp_path: Path) -> str:
    path = tmp_path / "job.yaml"
    path.write_text(JOB)
    return str(path)


@pytest.mark.parametrize("before", [[], ["file"], ["--explain"], ["file", "--explain"]])
def test_a_file_is_planned_whether_or_not_the_command_is_written(run: Run, job_path: str, before: list[str]) -> None:
    gateway = Gateway(plan=job_plan())
    result = run(gateway, *before, job_path)
    assert result.exit_code == 0, result.output
    (sent,) = gateway.sent
    assert sent[0] == "/v1/plans"
    assert sent[1]["resources"] == {"nodes": "1..4"}
    assert "aws/us-east-1/use1-az2" in result.output
    assert ("Where the hours go" in result.output) == ("--explain" in before)


@pytest.mark.parametrize("flags", [["--json"], ["--json", "--explain"]])
def test_json_is_the_plan_and_nothing_else(run: Run, job_path: str, flags: list[str]) -> None:
    for arguments in ([*flags, job_path], [job_path, *flags]):
        assert json.loads(run(Gateway(plan=job_plan()), *arguments).stdout) == job_plan()


def test_an_endpoint_file_is_shown_as_options(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "endpoint.yaml"
    path.write_text("kind: endpoint\nname: bot\nmodel: {base: tiny}\ntraffic: {requests_per_day: 2000}\n")
    gateway = Gateway(plan=endpoint_plan())
    result = run(gateway, str(path))
    assert result.exit_code == 0
    assert gateway.sent[0][1]["kind"] == "endpoint"
    assert "$/month" in result.output
    assert "break-even" in result.output


@pytest.mark.parametrize(
    ("answer", "policy", "code", "said"),
    [
        (replay(), None, 0, "equal to the bit"),
        (replay(equal=False, differences=["dearer by 1 USD"]), None, 1, "- dearer by 1 USD"),
        (replay(policy="fastest", differences=["sooner"]), "fastest", 0, "- sooner"),
        (replay(policy="fastest"), "fastest", 0, "equal to the bit"),
    ],
)
def test_a_replay_fails_only_if_the_same_policy_decides_otherwise(
    run: Run, answer: dict[str, Any], policy: str | None, code: int, said: str
) -> None:
    arguments = ["replay", "plan_1", *(["--policy", policy] if policy else [])]
    gateway = Gateway(replay=answer)
    result = run(gateway, *arguments)
    assert (result.exit_code, said in result.output) == (code, True), result.output
    assert gateway.sent == [("/v1/plans/plan_1/replay", {"policy": policy})]
    as_json = run(Gateway(replay=answer), *arguments, "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (code, answer)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], ["sskai plan FILE", "sskai plan replay PLAN_ID", "file", "replay"]),
        (["replay", "--help"], ["--policy"]),
        (["file", "--help"], ["--explain"]),
    ],
)
def test_the_help_shows_both_forms(run: Run, arguments: list[str], said: list[str]) -> None:
    result = run(Gateway(), *arguments)
    assert result.exit_code == 0
    flat = " ".join(result.output.split())
    assert all(words in flat for words in said)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read"), ("[1, 2]", "is no job file"), ("a: [", "cannot be read")]
)
def test_what_is_no_job_file_is_wrong_usage(run: Run, tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "job.yaml"
    if content is not None:
        path.write_text(content)
    gateway = Gateway()
    result = run(gateway, str(path))
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert gateway.sent == []
    assert run(gateway, "replay").exit_code == 2


def test_a_refusal_says_what_to_do_and_exits_with_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], job_path: str
) -> None:
    problem = {"title": "Nothing meets the constraints", "detail": "3 h are needed. Allow 3 h.", "status": 422}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(422, json=problem))
    monkeypatch.setattr(common, "connect", lambda: Client("http://gateway", "sskai_key", transport=transport))
    monkeypatch.setattr("sys.argv", ["sskai", "plan", job_path])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert "Nothing meets the constraints: 3 h are needed. Allow 3 h." in " ".join(capsys.readouterr().err.split())


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`sskai jobs ...` against a gateway that knows one timeline."""
    monkeypatch.setattr(common, "out", Console(width=120))

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert (request.method, request.url.path) == ("GET", "/v1/jobs/job_1/timeline")
        return httpx2.Response(200, json=timeline())

    def run(*arguments: str) -> Result:
        client = Client("http://gateway", "sskai_key", transport=httpx2.MockTransport(answer))
        monkeypatch.setattr(common, "connect", lambda: client)
        return CliRunner().invoke(cli.app, ["jobs", *arguments])

    return run


def test_a_timeline_is_drawn_in_the_terminal_or_printed_as_data(jobs: Callable[..., Result]) -> None:
    drawn = jobs("timeline", "job_1")
    assert drawn.exit_code == 0, drawn.output
    assert "#1 spot use1-az1" in drawn.output
    assert "deadline after 14h" in drawn.output
    assert json.loads(jobs("timeline", "job_1", "--json").output) == timeline()


def test_a_timeline_is_drawn_as_pictures(jobs: Callable[..., Result], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra `lab` is not installed")
    svg, png = tmp_path / "job.svg", tmp_path / "job.png"
    result = jobs("timeline", "job_1", "--svg", str(svg), "--png", str(png))
    assert result.exit_code == 0, result.output
    assert png.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in svg.read_text()
    assert jobs("timeline", "job_1", "--png", str(tmp_path / "job.gif")).exit_code == 2
    assert jobs("timeline", "job_1", "--png", str(tmp_path / "no" / "job.png")).exit_code == 1
