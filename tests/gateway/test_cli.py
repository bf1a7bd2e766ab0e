"""The command line against the real gateway: what it prints, what it sends, and its exit codes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio
import yaml
from typer.testing import CliRunner, Result

from sskai import cli
from sskai.cli import common, complete
from tests.gateway.conftest import MODEL, ROWS, House, jsonl

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Run(Protocol):
    async def __call__(self, *arguments: str, stdin: str | None = None) -> Result: ...


@pytest_asyncio.fixture(loop_scope="session")
async def run(house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Run]:
    """`sskai ...` as Ann, without a terminal."""
    monkeypatch.setenv("SSKAI_GATEWAY_URL", house.url)
    monkeypatch.setenv("SSKAI_API_KEY", house.ann.headers["Authorization"].removeprefix("Bearer "))
    monkeypatch.setenv("SSKAI_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("SSKAI_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(common, "RETRY_SECONDS", 0.2)

    async def run(*arguments: str, stdin: str | None = None) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, cli.app, arguments, stdin)

    yield run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "My Chats.jsonl"
    path.write_bytes(jsonl(ROWS))
    return path


async def test_data_is_uploaded_listed_shown_and_looked_into(run: Run, file: Path) -> None:
    made = await run("data", "upload", str(file))
    assert made.exit_code == 0, made.output
    listed = await run("data", "list")
    assert [line.split()[1:4] for line in listed.stdout.splitlines()[1:]] == [["my-chats", "1", "messages"]]
    (as_json,) = json.loads((await run("data", "list", "--json")).stdout)
    assert as_json["id"] in listed.stdout, "an id is never cut"
    assert json.loads((await run("data", "show", "my-chats@1")).stdout) == as_json
    rows = (await run("data", "preview", "my-chats", "-n", "2")).stdout.splitlines()
    assert [json.loads(row) for row in rows] == ROWS[:2]
    file.write_bytes(jsonl([{"text": "fine"}, {"text": 7}]))
    refused = await run("data", "upload", str(file))
    assert (refused.exit_code, "row 2" in refused.stderr) == (1, True)
    missing = await run("data", "upload", str(file.with_name("no.jsonl")))
    assert (missing.exit_code, missing.stderr.strip()) == (
        1,
        f"{file.with_name('no.jsonl')}: No such file or directory",
    )


async def test_a_job_is_made_of_flags_and_its_data_goes_along(run: Run, house: House, file: Path) -> None:
    flags = ("--data", str(file), "--base", MODEL, "--budget", "5", "--deadline", "6h", "--steps", "9", "--name", "bot")
    shown = yaml.safe_load((await run("train", *flags, "--print")).stdout)
    assert shown == {
        "kind": "finetune",
        "name": "bot",
        "model": {"base": MODEL, "method": "lora"},
        "hyperparameters": {"max_steps": 9},
        "budget": {"total_usd": 5.0},
        "deadline": "6h",
        "dataset": {"uri": "dataset://my-chats"},
    }
    assert json.loads((await run("data", "list", "--json")).stdout) == [], "--print uploads nothing"
    submitted = await run("train", *flags, "--json")
    assert submitted.exit_code == 0, submitted.output
    job = json.loads(submitted.stdout)
    assert (job["dataset"], job["budget_usd"]) == ("dataset://my-chats/1", 5.0)
    again = json.loads((await run("train", "--data", "my-chats@1", "--base", MODEL, "--json")).stdout)
    assert (again["name"], again["dataset"]) == ("my-chats", "dataset://my-chats/1")
    await house.bus.settle()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--data", "rows", "--base", "tiny-lama"), 1, "Did you mean tiny-llama or"),
        (("--data", "rows", "--base", MODEL, "--method", "magic"), 1, "model.method"),
        (("--data", "rows"), 2, "--base"),
        (("--data", "rows", "--base", MODEL, "--model", "mine@1"), 2, "--base"),
        (("--data", "no/such.jsonl", "--base", MODEL), 2, "there is no such file"),
        (("--data", "rows", "--base", MODEL, "--steps", "x"), 2, "--steps"),
    ],
)
async def test_what_cannot_be_trained_is_said_with_what_to_do(
    run: Run, house: House, arguments: tuple[str, ...], code: int, said: str
) -> None:
    await house.dataset(house.ann, "rows")
    result = await run("train", *arguments)
    assert (result.exit_code, said in " ".join(result.stderr.split())) == (code, True), result.output


async def test_jobs_are_submitted_by_a_file_found_by_name_and_cancelled(run: Run, house: House, tmp_path: Path) -> None:
    await house.dataset(house.ann)
    path = tmp_path / "job.yaml"
    path.write_text(f"name: bot\nmodel: {{base: {MODEL}}}\ndataset: {{uri: support}}\n")
    first = json.loads((await run("jobs", "submit", str(path), "--json")).stdout)
    second = json.loads((await run("jobs", "submit", "-f", str(path), "--json")).stdout)
    assert (await run("jobs", "submit")).exit_code == 2
    listed = json.loads((await run("jobs", "list", "--json")).stdout)
    assert [job["id"] for job in listed] == [second["id"], first["id"]]
    assert json.loads((await run("jobs", "show", "bot")).stdout)["id"] == second["id"], "the newest of the name"
    assert json.loads((await run("jobs", "cancel", first["id"], "--json")).stdout)["state"] == "cancelling"
    assert "cancelling" in (await run("jobs", "list", "--state", "cancelling")).stdout
    unknown = await run("jobs", "show", "bott")
    assert (unknown.exit_code, unknown.stderr.strip()) == (1, "There is no job 'bott'. Did you mean bot?")
    other = await run("jobs", "cancel", "job_of_nobody")
    assert (other.exit_code, "No such job" in other.stderr) == (1, True)
    await house.bus.settle()


async def test_endpoints_are_known_by_their_names_and_asked_about_before_they_go(run: Run, house: House) -> None:
    made = await house.ann.post("/v1/endpoints", json={"name": "chat", "model": MODEL})
    assert made.status_code == 202, made.text
    assert "chat" in (await run("endpoints", "list")).stdout
    assert json.loads((await run("endpoints", "show", "chat", "--json")).stdout)["name"] == "chat"
    asked = await run("endpoints", "delete", "chat")
    assert (asked.exit_code, "--yes" in asked.stderr) == (2, True)
    assert json.loads((await run("endpoints", "delete", "chat", "--yes", "--json")).stdout)["state"] == "deleting"
    nobody = await run("endpoints", "show", "chatt")
    assert (nobody.exit_code, "Did you mean chat?" in nobody.stderr) == (1, True)
    await house.bus.settle()


async def test_events_are_tailed_as_lines_of_json(run: Run, house: House) -> None:
    job = await house.job(house.ann)
    told = await run("events", "tail", "--after", "0", "--types", "JobSubmitted", "-n", "1")
    assert told.exit_code == 0, told.output
    (line,) = told.stdout.splitlines()
    assert json.loads(line)["data"]["job_id"] == job["id"]
    wrong = await run("events", "tail", "--types", "JobVanished")
    assert (wrong.exit_code, "No such event" in wrong.stderr) == (1, True)


async def test_webhooks_are_made_shown_and_deleted(run: Run) -> None:
    made = await run("webhooks", "create", "https://hooks.example.com/sskai", "--types", "JobFailed")
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith("whsec_"), "the secret alone, for a variable"
    (webhook,) = json.loads((await run("webhooks", "list", "--json")).stdout)
    assert webhook["types"] == ["JobFailed"]
    assert webhook["id"] in (await run("webhooks", "show", webhook["id"])).stdout
    assert (await run("webhooks", "delete", webhook["id"], "--yes")).exit_code == 0
    assert json.loads((await run("webhooks", "list", "--json")).stdout) == []


async def test_a_key_is_made_by_who_may(run: Run, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSKAI_API_KEY", house.admin.headers["Authorization"].removeprefix("Bearer "))
    made = await run("keys", "create", "ci")
    assert made.exit_code == 0, made.output
    assert made.stdout.startswith("sskai_")
    key_id = made.stderr.split()[0]
    assert key_id in (await run("keys", "list")).stdout
    assert json.loads((await run("keys", "revoke", key_id, "--yes", "--json")).stdout) == {"id": key_id, "ended": True}


async def test_who_is_not_known_or_not_reached_ends_with_three(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSKAI_API_KEY", "sskai_of-nobody")
    stranger = await run("jobs", "list")
    assert (stranger.exit_code, "sskai login" in stranger.stderr) == (3, True)
    monkeypatch.setenv("SSKAI_GATEWAY_URL", "http://127.0.0.1:9")
    away = await run("jobs", "list")
    assert (away.exit_code, "not reachable" in away.stderr) == (3, True)
    monkeypatch.delenv("SSKAI_GATEWAY_URL")
    nowhere = await run("jobs", "list")
    assert (nowhere.exit_code, "sskai up" in nowhere.stderr) == (3, True)


async def test_a_profile_is_tried_kept_used_and_forgotten(
    run: Run, house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = house.ann.headers["Authorization"].removeprefix("Bearer ")
    monkeypatch.delenv("SSKAI_GATEWAY_URL")
    monkeypatch.delenv("SSKAI_API_KEY")
    wrong = await run("login", "--url", house.url, "--key", "sskai_of-nobody")
    assert (wrong.exit_code, (tmp_path / "config.toml").exists()) == (3, False)
    kept = await run("login", "--profile", "acme", stdin=f"{house.url}\n{key}\n")
    assert kept.exit_code == 0, kept.output
    assert key not in kept.output
    who = json.loads((await run("whoami", "--json")).stdout)
    assert (who["url"], who["source"]) == (house.url, "profile acme")
    assert (await run("--profile", "acme", "jobs", "list")).exit_code == 0
    assert (await run("--profile", "nobody", "jobs", "list")).exit_code == 3
    assert (await run("logout")).exit_code == 0
    assert (await run("jobs", "list")).exit_code == 3


async def test_a_shell_is_offered_names_and_never_an_error(
    run: Run, house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await house.job(house.ann)

    async def offered(kind: str, begun: str) -> list[Any]:
        return list(await asyncio.to_thread(getattr(complete, kind), begun))

    assert [name for name, _ in await offered("jobs", "b")] == ["bot"]
    assert job["id"] in [name for name, _ in await offered("jobs", "job_")]
    assert [name for name, _ in await offered("datasets", "support@")] == ["support@1"]
    assert MODEL in [name for name, _ in await offered("models", "tiny")]
    monkeypatch.setenv("SSKAI_GATEWAY_URL", "http://127.0.0.1:9")
    assert await offered("jobs", "") == []
