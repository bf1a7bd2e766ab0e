"""What the command line says of a job that goes on, of a chat, of logs, and of what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import StringIO
from typing import Any

import httpx2
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from sskai import cli
from sskai.cli import common, follow, login, program, stack_commands
from sskai.client import Client, Event, patience
from sskai.local import stack, weights
from sskai.local.state import StackState

NOW = datetime(2026, 11, 29, 22, 0, tzinfo=UTC)
Answer = Callable[[httpx2.Request], httpx2.Response]


def event(kind: str, position: int, **data: Any) -> Event:
    cloudevent = {"partitionkey": "job_1", "time": "2026-11-29T22:00:00+00:00", "data": {"job_id": "job_1", **data}}
    return Event(position, kind, "job_1", cloudevent)


PLACE = {
    "instance_type": "g6.xlarge",
    "zone": "use1-az2",
    "price_usd_per_hour": 0.24,
    "capacity_type": "CAPACITY_TYPE_SPOT",
}
SPENT = {"amount_nano_usd": "1500000000", "on_demand_nano_usd": "4000000000"}
LIFE = [
    event("JobSubmitted", 1),
    event("AttemptStarted", 2, attempt=1, placement=PLACE),
    event("AttemptProgressed", 3, attempt=1, phase="training", step=1, total_steps=100, loss=2.5, eta_seconds=200.0),
    event("AttemptProgressed", 4, attempt=1, phase="training", step=2, total_steps=100, loss=2.4),
    event("AttemptLost", 5, attempt=1, reason="spot-interrupted"),
    event("JobRequeued", 6, reason="spot-interrupted", steps_done=2),
    event("AttemptResumed", 7, attempt=2, from_step=2, gap_seconds=21.4),
    event("AttemptProgressed", 8, attempt=2, phase="training", step=50, total_steps=100, loss=2.0),
    event("SpendRecorded", 9, **SPENT),
]
SUCCESS = event("JobSucceeded", 10, steps=100, eval_loss_before=2.9, eval_loss_after=1.7, model_name="bot")
FAILURE = event("JobFailed", 10, reason="budget-exhausted", advice="Raise budget.total_usd.")


def stream(events: list[Event]) -> bytes:
    return b"".join(
        f"event: {one.type}\nid: {one.position}\ndata: {json.dumps(one.cloudevent)}\n\n".encode() for one in events
    )


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.001)

    def run(answer: Answer, *arguments: str, stdin: str | None = None) -> Result:
        transport = httpx2.MockTransport(answer)
        monkeypatch.setattr(common, "connect", lambda: Client("http://gateway", "key", transport=transport))
        return CliRunner().invoke(cli.app, arguments, stdin)

    return run


def test_a_job_that_is_followed_in_a_pipe_is_told_in_lines(run: Run) -> None:
    result = run(lambda _: httpx2.Response(200, content=stream([*LIFE, SUCCESS])), "jobs", "follow", "job_1")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "attempt 1 on g6.xlarge in use1-az2, 0.2400 $/h spot",
        "attempt 1: training 1/100, loss 2.500, 3 min left, 0.0000 $",
        "attempt 1 was lost: spot-interrupted",
        "looks for another machine (spot-interrupted), 2 steps are safe",
        "attempt 2 goes on after step 2: 0 steps lost, 21 s gap",
        "attempt 2: training 50/100, loss 2.000, 0.0000 $",
        "succeeded after 100 steps; held-out loss 2.900 -> 1.700",
        "1.5000 $ (the same on demand: 4.0000 $)",
        "Serve it: sskai endpoints create bot --model bot",
    ]


def test_a_job_that_fails_ends_with_one_and_its_advice(run: Run) -> None:
    result = run(lambda _: httpx2.Response(200, content=stream([*LIFE, FAILURE])), "jobs", "follow", "job_1")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "failed: budget-exhausted. Raise budget.total_usd."


def test_programs_are_told_events(run: Run) -> None:
    result = run(lambda _: httpx2.Response(200, content=stream([*LIFE, FAILURE])), "jobs", "follow", "job_1", "--json")
    assert result.exit_code == 1
    assert [json.loads(line)["position"] for line in result.stdout.splitlines()] == [*range(1, 11)]


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(common, "out", screen)
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=stream([*LIFE, SUCCESS])))
    with Client("http://gateway", "key", transport=transport) as client:
        assert follow.follow(client, "job_1", as_json=False) == 0
    drawn = screen.file.getvalue()
    assert "attempt 2 training" in drawn
    assert "50/100" in drawn
    assert "loss 2.000" in drawn


def test_who_stops_looking_is_told_that_the_job_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Console(file=StringIO(), width=200)
    monkeypatch.setattr(common, "err", said)

    class Interrupted:
        class jobs:
            @staticmethod
            def follow(_job_id: str) -> Any:
                yield LIFE[0]
                raise KeyboardInterrupt

    assert follow.follow(Interrupted(), "job_1", as_json=False) == 130
    assert "sskai jobs cancel job_1" in said.file.getvalue()


def test_a_line_is_told_ten_times_on_the_way() -> None:
    training, told = follow.Training(), 0
    for step in range(1, 1001):
        training.take(event("AttemptProgressed", step, attempt=1, phase="training", step=step, total_steps=1000))
        told += bool(training.news())
    assert told == 11


def chunk(text: str) -> str:
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}) + "\n\n"


def test_a_question_is_answered_as_it_is_written_and_may_come_by_a_pipe(run: Run) -> None:
    asked: list[Any] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(json.loads(request.content))
        return httpx2.Response(200, content=(chunk("Hel") + chunk("lo") + "data: [DONE]\n\n").encode())

    said = run(answer, "chat", "bot", "Hi", "--system", "Be brief.", "--temperature", "0")
    assert (said.exit_code, said.stdout) == (0, "Hello\n")
    assert asked[0]["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert (asked[0]["temperature"], asked[0]["max_tokens"]) == (0, 256)
    assert run(answer, "chat", "bot", stdin="Hi there\n").stdout == "Hello\n"
    assert asked[1]["messages"] == [{"role": "user", "content": "Hi there"}]
    assert run(answer, "chat", "bot", stdin="").exit_code == 2


def test_a_conversation_remembers_and_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    from sskai.cli import chat

    asked: list[Any] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(json.loads(request.content)["messages"])
        return httpx2.Response(200, content=(chunk("Yes.") + "data: [DONE]\n\n").encode())

    typed = iter(["One?", "Two?", "/new", "/system Be brief.", "Three?"])

    def read(_prompt: str) -> str:
        try:
            return next(typed)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", read)
    with Client("http://gateway", "key", transport=httpx2.MockTransport(answer)) as client:
        chat._converse(client, "bot", [], {})
    words = [[message["content"] for message in messages] for messages in asked]
    assert words == [["One?"], ["One?", "Yes.", "Two?"], ["Be brief.", "Three?"]]


def test_an_endpoint_that_is_not_there_is_looked_for(run: Run) -> None:
    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/endpoints":
            return httpx2.Response(200, json={"data": [{"name": "support", "state": "ready"}], "next": None})
        return httpx2.Response(404, json={"error": {"message": "The model 'suport' does not exist"}})

    result = run(answer, "chat", "suport", "Hi")
    assert result.exit_code == 1
    assert "Did you mean support?" in result.stderr


def test_logs_are_followed_with_a_mark_between_attempts(run: Run) -> None:
    lines = [{"attempt": 1, "text": "a [b]"}, {"attempt": 2, "text": "c"}]
    body = "".join(f"event: line\ndata: {json.dumps(line)}\nid: {n}:1\n\n" for n, line in enumerate(lines, start=1))
    content = (body + "event: end\ndata: {}\n\n").encode()
    result = run(lambda _: httpx2.Response(200, content=content), "jobs", "logs", "job_1", "--follow")
    assert (result.stdout, result.stderr) == ("a [b]\nc\n", "--- attempt 2 ---\n")
    as_json = run(lambda _: httpx2.Response(200, content=content), "jobs", "logs", "job_1", "--follow", "--json")
    assert [json.loads(line) for line in as_json.stdout.splitlines()] == lines


def test_every_wrong_field_is_named(run: Run) -> None:
    problem = {
        "title": "The request is not valid",
        "status": 422,
        "detail": "name: is missing",
        "errors": [{"field": "name", "message": "is missing"}, {"field": "model.rank", "message": "is 0"}],
    }
    result = run(lambda _: httpx2.Response(422, json=problem), "models", "list")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["The request is not valid: name: is missing", "  model.rank: is 0"]


def test_a_bug_is_a_line_and_not_a_stack(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Client:
        raise RuntimeError("[a bug]")

    monkeypatch.setattr(common, "connect", broken)
    monkeypatch.setattr("sys.argv", ["sskai", "jobs", "list"])
    with pytest.raises(SystemExit) as ended:
        program.main()
    told = capsys.readouterr().err
    assert (ended.value.code, "Traceback" in told, "[a bug]" in told) == (1, False, True)
    monkeypatch.setenv("SSKAI_DEBUG", "1")
    with pytest.raises(RuntimeError):
        program.main()


def test_the_console_is_opened_by_a_link_or_its_address_is_printed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def open_browser(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr(login.webbrowser, "open", open_browser)
    link = {"url": "http://gateway/signin#link=abc", "expires_at": "2026-11-29T22:05:00Z"}

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert (request.method, request.url.path) == ("POST", "/v1/session/links")
        return httpx2.Response(201, json=link)

    assert run(answer, "console").exit_code == 0
    assert opened == [link["url"]]
    assert run(answer, "console", "--print").stdout == f"{link['url']}\n"
    assert json.loads(run(answer, "console", "--json").stdout) == link


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def test_every_command_has_help_and_json() -> None:
    found = dict(commands(typer.main.get_command(cli.app)))
    assert len(found) > 60
    assert all(command.help for command in found.values())
    without = {
        name
        for name, command in found.items()
        if not any("--json" in getattr(parameter, "opts", ()) for parameter in command.params)
    }
    # A log's lines are what they are, and the lab is a program of its own.
    assert without == {"logs", "lab"}


@pytest.mark.parametrize("known", [True, False])
def test_up_says_how_to_sign_in(run: Run, monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    environment = {"SSKAI_GATEWAY_URL": "http://gateway", "SSKAI_ADMIN_KEY": "sskai_first"}
    monkeypatch.setattr(stack, "up", lambda **_: StackState("running", None, environment))
    monkeypatch.setattr(weights, "fetch", lambda: None)

    def answer(_request: httpx2.Request) -> httpx2.Response:
        if known:
            return httpx2.Response(201, json={"url": "http://gateway/signin#link=abc", "expires_at": ""})
        return httpx2.Response(404, json={"title": "Not Found", "detail": "", "status": 404})

    transport = httpx2.MockTransport(answer)
    monkeypatch.setattr(
        stack_commands, "Client", lambda url, key, **_: Client(url, key, transport=transport, retry_seconds=0)
    )
    result = CliRunner().invoke(cli.app, ["up"])
    assert result.exit_code == 0, result.output
    assert "API key: sskai_first" in result.stdout
    assert ("signin#link=abc" in result.stdout) == known
