"""The infrastructure as `sskai up` starts it: kept alive, found again, and gone without a trace."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx2
import psutil
import psycopg
import pytest

from sskai import contract
from sskai.local import objectstore, stack
from sskai.local.layout import Layout
from sskai.local.processes import ProcessIdentity, StartError, wait_until
from sskai.local.state import StackState, read_state, state_file

PARTS = {"kafka", "postgres", "objects", "cloud"}


@pytest.fixture
def home() -> Iterator[Path]:
    # Not pytest's own folder: the database's system user may not pass through that one.
    folder = Path(tempfile.mkdtemp(prefix="sskai-stack-"))
    yield folder
    stack.down(folder)
    shutil.rmtree(folder, ignore_errors=True)


def processes(state: StackState) -> dict[str, ProcessIdentity]:
    return {name: part.process for name, part in state.parts.items() if part.process is not None}


def running(home: Path) -> bool:
    rows = stack.status(home)
    return {row.name for row in rows if row.state == "running"} == PARTS | {"supervisor"}


def launch_pod(state: StackState, token: str) -> ProcessIdentity:
    answer = httpx2.post(
        f"{state.environment['SSKAI_CLOUD_URL']}/machines",
        headers={"Authorization": f"Bearer {state.environment['SSKAI_CLOUD_TOKEN']}"},
        json={
            "instance_type": "g5.xlarge",
            "region": "us-east-1",
            "zone": "use1-az2",
            "capacity_type": "spot",
            "client_token": token,
            "pod": {"name": token, "command": ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]},
        },
    )
    return ProcessIdentity.of(answer.raise_for_status().json()["pod"]["pid"])


def test_the_whole_life_of_the_infrastructure(home):
    said: list[str] = []
    state = stack.up(home, services=False, say=said.append)

    assert running(home)
    assert {line.split(":")[0] for line in said} == PARTS
    assert state_file(home).stat().st_mode & 0o077 == 0
    assert all(row.rss_bytes and row.uptime_seconds is not None and row.pid for row in stack.status(home))

    # Every topic of the contract stands before the first service asks for it.
    topics = asyncio.run(topics_of(state.environment["SSKAI_KAFKA_BOOTSTRAP"]))
    assert {name for topic in contract.TOPICS for name in (topic, f"{topic}.dlq")} <= topics

    # Asked again, it changes nothing.
    said.clear()
    assert processes(stack.up(home, services=False, say=said.append)) == processes(state)
    assert "running already" in said[0]

    # Whichever part is killed comes back, on the same port, with its data.
    url = state.environment["SSKAI_DATABASE_URL"].replace("+psycopg", "")
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
    pod = launch_pod(state, "survivor")
    for process in processes(state).values():
        os.kill(process.pid, signal.SIGKILL)
    assert wait_until(lambda: all(row.restarts == 1 for row in stack.status(home)[1:]) and running(home), 30)
    restarted = read_state(home)
    assert {name: part.port for name, part in restarted.parts.items()} == {
        name: part.port for name, part in state.parts.items()
    }
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
    assert pod.alive()

    # Its supervisor killed, the stack is found and replaced; pods go on.
    os.kill(state.supervisor.pid, signal.SIGKILL)
    assert wait_until(lambda: stack.status(home)[0].state == "dead", 5)
    assert all(process.alive() for process in processes(restarted).values())
    said.clear()
    replaced = stack.up(home, services=False, say=said.append)
    assert "supervisor died" in said[0]
    assert not any(process.alive() for process in processes(restarted).values())
    assert replaced.supervisor != state.supervisor
    assert replaced.environment == state.environment
    assert pod.alive()

    stack.down(home, say=said.append)
    assert said[-1] == "SSKAI is down."
    assert not any(process.alive() for process in [*processes(replaced).values(), replaced.supervisor, pod])
    assert not any(socket.exists() for socket in objectstore.sockets(Layout.read(home).objectstore_ports()))
    assert processes_that_name(home) == []
    assert stack.status(home) == []
    stack.down(home, purge=True, say=said.append)
    assert not home.exists()


@pytest.mark.heavy
def test_down_finds_everything_that_a_killed_supervisor_left(home):
    state = stack.up(home, services=False, say=lambda _line: None)
    pod = launch_pod(state, "left")
    os.kill(state.supervisor.pid, signal.SIGKILL)
    stack.down(home, say=lambda _line: None)
    assert not any(process.alive() for process in [*processes(state).values(), pod])
    assert processes_that_name(home) == []
    assert not any(socket.exists() for socket in objectstore.sockets(Layout.read(home).objectstore_ports()))


def test_a_part_that_cannot_start_fails_the_whole_start_with_its_reason(home, monkeypatch):
    (home / "kafka" / "data").mkdir(parents=True)
    (home / "kafka" / "data" / "meta.properties").write_text("version=1\ncluster.id=\nnode.id=not-a-number\n")
    with pytest.raises(StartError, match=r"kafka: ended with exit code"):
        stack.up(home, services=False, say=lambda _line: None)
    assert processes_that_name(home) == []


def test_logs_show_the_last_lines_and_follow_new_ones(home):
    log = home / "logs" / "gateway.log"
    log.parent.mkdir()
    log.write_text("one\ntwo\nthree\n")
    assert list(stack.logs("gateway", home, lines=2)) == ["two", "three"]
    following = stack.logs("gateway", home, lines=1, follow=True)
    assert next(following) == "three"
    with log.open("a") as file:
        file.write("four\nfi")
    assert next(following) == "four"
    with log.open("a") as file:
        file.write("ve\nsix\n")
    assert list(islice(following, 2)) == ["five", "six"]
    with pytest.raises(StartError, match="there are: gateway"):
        list(stack.logs("nobody", home))


def test_a_stack_that_never_was_is_down(tmp_path):
    said: list[str] = []
    stack.down(tmp_path / "nowhere", say=said.append)
    assert said == ["SSKAI is down."]
    assert stack.status(tmp_path / "nowhere") == []


def test_a_taken_port_is_chosen_again_and_the_rest_is_kept(tmp_path, monkeypatch):
    first = Layout.of(tmp_path)
    monkeypatch.setattr("sskai.local.layout.port_is_free", lambda port: port != first.ports["gateway"])
    second = Layout.of(tmp_path)
    assert second.secrets == first.secrets
    assert {name for name in first.ports if first.ports[name] != second.ports[name]} == {"gateway"}
    assert len(set(second.ports.values())) == len(second.ports)


async def topics_of(bootstrap: str) -> set[str]:
    from aiokafka.admin import AIOKafkaAdminClient

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return set(await admin.list_topics())
    finally:
        await admin.close()


def processes_that_name(home: Path) -> list[str]:
    """The command lines of live processes that mention the home folder (this test's own excepted)."""
    found = []
    for process in psutil.process_iter(["cmdline", "status", "pid"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(home) in command and process.info["pid"] != os.getpid():
            found.append(command)
    return found
