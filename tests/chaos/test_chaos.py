"""A minute of chaos on the real processes (`make soak`: half an hour), and what the harness itself is made of."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest

from benchmarks.reliability.soak import figures
from sskai import contract
from sskai.bus import Incoming
from sskai.events import v1 as events
from sskai.local.processes import free_ports
from sskai.testing import envelope, wait_for
from tests.chaos.checks import Watch, check_invariants
from tests.chaos.faults import POISON_KEY, Kill, Log, Outage
from tests.chaos.history import History
from tests.chaos.proxy import Proxy
from tests.chaos.recovery import Recovery
from tests.chaos.run import Options, Report, run
from tests.chaos.users import Users, Wish

SECONDS, SEED = 60.0, 2
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
JOB, TENANT = "job_1", "tenant_chaos_a"


@pytest.mark.journey
@pytest.mark.timeout(600)
async def test_a_minute_of_chaos_is_noticed_by_no_job() -> None:
    folder = Path(tempfile.mkdtemp(prefix="sskai-chaos-"))
    report = await run(Options(SECONDS, SEED), folder, print)
    again = f"python -m tests.chaos --seconds {SECONDS:g} --seed {SEED} (all logs are in {folder})"
    assert report.violations == [], again
    assert report.harness_errors == [], again
    assert report.ends.get("succeeded", 0) >= 3, again
    assert sum(report.faults.values()) >= 6, again
    shutil.rmtree(folder)


def test_a_report_is_json_whose_figures_the_benchmark_reads() -> None:
    alone = Recovery({"monitor": [1.5, 2.5]}, {"broker": [0.8]}, [0.1], {503: 1, 201: 3, 500: 1})
    times = {"count": 2, "p50": 4.0, "p99": 38.0, "max": 38.0}
    report = Report(
        2, 60.0, 7, {"succeeded": 7}, 0, 0, [], 0, 0.1, {"kill": 3}, "tried", 40.0, times, times, alone, 9, 0, [], []
    )
    found = {one["name"]: one["value"] for one in figures(json.loads(json.dumps(report.document())))}
    assert (found["R1 jobs accepted under chaos"], found["R1 invariants broken"]) == (7, 0)
    assert (found["R5 alone, p50"], found["R5 broker back after 30 s, longest"]) == (2.0, 0.8)
    assert found["R13 disk full: neither taken nor refused with 503"] == 1


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """In front of a server that says everything again."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while said := await reader.read(1024):
            writer.write(said)
        writer.close()

    port, target = free_ports(2)
    server = await asyncio.start_server(echo, "127.0.0.1", target)
    made = Proxy(port, target, random.Random(1))
    await made.start()
    yield made
    await made.stop()
    server.close()


async def _say(proxy: Proxy, text: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        writer.write(text)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.close()


async def test_a_proxy_passes_on_what_is_said(proxy: Proxy) -> None:
    assert await _say(proxy, b"x" * 200_000) == b"x" * 200_000
    proxy.delay_seconds = (0.001, 0.01)
    assert await _say(proxy, b"late") == b"late"


async def test_a_proxy_resets_what_stands(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    assert await _say(proxy, b"two") == b"two"


async def test_a_proxy_that_is_cut_lets_nobody_through_until_it_is_healed(proxy: Proxy) -> None:
    proxy.cut()

    async def refused() -> bool:
        try:
            return await _say(proxy, b"hello") == b""
        except ConnectionError:
            return True

    assert await refused()
    proxy.heal()
    assert await _say(proxy, b"hello") == b"hello"


async def test_a_silent_proxy_says_it_later(proxy: Proxy) -> None:
    proxy.fall_silent()
    answer = asyncio.create_task(_say(proxy, b"hello"))
    await wait_for(lambda: proxy.connections > 0)
    assert not answer.done()
    proxy.heal()
    assert await answer == b"hello"


def _history(handled: dict[str, list[tuple[float, str]]], told: dict[str, float]) -> History:
    """Seconds after noon."""
    at = {name: NOON + timedelta(seconds=seconds) for name, seconds in told.items()}
    message = events.JobCancelRequested(job_id=JOB, tenant_id=TENANT)
    return History(
        [contract.Envelope(message, name, "test", moment) for name, moment in at.items()],
        [],
        {
            service: [(NOON + timedelta(seconds=seconds), name) for seconds, name in handled.get(service, [])]
            for service in ("gateway", "optimizer", "scheduler", "trainer", "inference", "monitor")
        },
    )


def test_only_events_that_waited_say_how_long_a_service_was_away() -> None:
    history = _history({"gateway": [(-1, "a"), (3, "b"), (50, "c")], "scheduler": [(7, "b")]}, {"b": 0.2, "c": 49.9})
    kills = [Kill("gateway", NOON), Kill("gateway", NOON + timedelta(seconds=20)), Kill("scheduler-1", NOON)]
    assert history.after_kills(kills) == [3.0, 7.0]
    assert history.after_outages([Outage("kafka", NOON - timedelta(seconds=9), NOON)]) == [7.0]


class NoStack:
    """Its database is away."""

    def connect(self) -> psycopg.Connection:
        raise psycopg.OperationalError("away")


def _judged(folder: Path, history: History, log: Log, pod_log: str = "") -> list[str]:
    users = Users(SimpleNamespace(), random.Random(1), {JOB: Wish(TENANT, None, 0.1)})
    (folder / JOB).mkdir()
    (folder / JOB / "log").write_text(pod_log)
    return check_invariants(Watch(NoStack(), users), history, log, folder, ["job_1 is running in the scheduler"])


def test_the_judge_says_what_has_not_come_to_rest_and_nothing_else(tmp_path: Path) -> None:
    calm = "1 began 0 1.0\n1 step 1 1.1\n1 save 1 1.2\n2 began 1 1.3\n2 save 2 1.4\n"
    assert _judged(tmp_path, _history({}, {}), Log(), calm) == ["I1, I3, I7: job_1 is running in the scheduler"]


@pytest.mark.parametrize(
    ("pod_log", "said"),
    [
        ("1 began 0 1.0\n2 began 0 1.1\n1 save 5 1.2\n", "I2: job_1: attempt 1 wrote save 5 after attempt 2 had begun"),
        ("2 began 0 1.0\n1 began 0 1.1\n", "I2: job_1: attempt 1 took over after attempt 2"),
        ("1 began 0 1.0\n1 save 5 1.1\n2 began 3 1.2\n", "I4: job_1: attempt 2 goes on from 3, and 5 was committed"),
    ],
)
def test_the_judge_sees_what_pods_must_not_do(pod_log: str, said: str, tmp_path: Path) -> None:
    assert said in _judged(tmp_path, _history({}, {}), Log(), pod_log)


def test_the_judge_sees_foreign_events_and_poison_that_nobody_set_aside(tmp_path: Path) -> None:
    history = _history({}, {})
    foreign, poison = (
        envelope(events.AttemptProgressed(job_id=JOB, tenant_id="tenant_other", attempt=1)) for _ in range(2)
    )
    history.told.extend([foreign, poison])
    record = contract.encode(poison)
    found = _judged(tmp_path, history, Log(poison={poison.id}))
    assert "I9: AttemptProgressed of job_1 names tenant_other, not tenant_chaos_a" in found
    assert f"I7: poison {poison.id} was not set aside" in found
    headers = [*record.headers, ("dlq_reason", b"foreign")]
    letter = Incoming(record.topic, 0, 0, POISON_KEY, record.value, headers)
    aside = History([poison], [letter], history.handled)
    (tmp_path / "again").mkdir()
    assert len(_judged(tmp_path / "again", aside, Log(poison={poison.id}))) == 1
