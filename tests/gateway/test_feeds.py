"""Each stream gets exactly its part of the log, whoever listens beside it, leaves, is slow or comes late."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event as hooks

from services.gateway.feeds import EVENTS_AT_ONCE, Feeds, Stream
from services.gateway.hub import Hub, listening
from services.gateway.ring import SLICE_BYTES, Cut, Entry, Ring, Wanted, entry, slice_of
from services.gateway.tables import EventRow
from sskai.database import Database
from sskai.testing import wait_for

SERVICE = "gateway"
TYPES = ("sskai.events.v1.JobHeld", "sskai.events.v1.JobAdmitted", "sskai.events.v1.JobSucceeded")
SUBJECTS = ("job_a", "job_b")

wanteds = st.builds(
    Wanted, st.frozensets(st.sampled_from(TYPES), max_size=2), st.sampled_from([None, *SUBJECTS, "job_nobody"])
)


def positions(rendered: bytes) -> list[int]:
    return [int(line[4:]) for line in rendered.decode().splitlines() if line.startswith("id: ")]


def behind(log: list[Entry], position: int, wanted: Wanted, floor: int) -> Cut:
    """What reading the log would bring."""
    found = [one for one in log if one.id > position and wanted.takes(one)]
    rendered, count = slice_of(found)
    seen = [one.id for one in found[:count]]
    return Cut(rendered, max([floor, position, *seen]) if count == len(found) else seen[-1])


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(1, 3), st.sampled_from(TYPES), st.sampled_from(SUBJECTS), st.integers(0, 60_000)),
            max_size=6,
        ),
        max_size=6,
    ),
    st.lists(st.tuples(st.integers(0, 20), wanteds, st.integers(0, 5)), max_size=5),
    st.integers(1, 8),
)
def test_any_number_of_streams_cut_their_parts_of_the_log_out_of_a_small_ring(
    batches: list[list[tuple[int, str, str, int]]], streams: list[tuple[int, Wanted, int]], most_events: int
) -> None:
    ring = Ring(0, most_events=most_events, most_bytes=100_000)
    log: list[Entry] = []
    got: list[list[int]] = [[] for _ in streams]
    at = [after for after, _, _ in streams]
    for turn, batch in enumerate([*batches, []]):
        for step, kind, subject, size in batch:
            newest = log[-1].id if log else 0
            log.append(entry(newest + step, kind, subject, {"data": "x" * size}))
        ring.append(log[len(log) - len(batch) :])
        for number, (_, wanted, slow) in enumerate(streams):
            if slow > turn and turn < len(batches):
                continue  # it sends nothing for so long
            while True:
                cut = ring.cut(at[number], wanted) or behind(log, at[number], wanted, ring.floor)
                if cut.position == at[number]:
                    break
                assert len(cut.rendered) <= SLICE_BYTES + 100 or len(positions(cut.rendered)) == 1
                got[number] += positions(cut.rendered)
                at[number] = cut.position
    for (after, wanted, _), seen in zip(streams, got, strict=True):
        assert seen == [one.id for one in log if one.id > after and wanted.takes(one)]


@asynccontextmanager
async def house(database: Database, **options: int) -> AsyncIterator[Feeds]:
    hub = Hub()
    async with listening(hub, database.url):
        yield Feeds(database, hub, **options)
        hub.close()


async def logged(database: Database, dice: random.Random, count: int, tenant_id: str = "tenant_a") -> list[EventRow]:
    rows = [
        EventRow(
            tenant_id=tenant_id,
            subject=dice.choice(SUBJECTS),
            type=dice.choice(TYPES),
            event={"data": {"text": "é\n" * dice.randrange(50)}},
            at=datetime.now(UTC),
        )
        for _ in range(count)
    ]
    async with database.transaction() as session:
        session.add_all(rows)
    return rows


async def others(dice: random.Random) -> None:
    """Let the others go on for a while."""
    for _ in range(dice.randrange(100)):
        await asyncio.sleep(0)


class Client:
    """Reads a stream, now and then slowly; knows what it got."""

    def __init__(self, feeds: Feeds, wanted: Wanted, after: int | None, dice: random.Random) -> None:
        self.stream = Stream(feeds, "tenant_a", wanted, after, heartbeat_seconds=0.05)
        self.wanted, self.position, self.dice = wanted, after, dice
        self.began: int | None = after
        self.got: list[int] = []
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for piece in self.stream.pieces():
            for block in piece.decode().split("\n\n"):
                fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
                if "id" in fields:
                    self.position = int(fields["id"])
                    self.began = self.position if self.began is None else self.began
                if "data" in fields:
                    json.loads(fields["data"])
                    self.got.append(int(fields["id"]))
            if self.dice.random() < 0.2:
                await others(self.dice)

    def took(self, row: EventRow) -> bool:
        """Whether it should have got it by now."""
        assert self.began is not None
        assert self.position is not None
        wanted = self.wanted.takes(Entry(row.id, row.type, row.subject, b""))
        return wanted and self.began < row.id <= self.position

    async def leave(self) -> None:
        self.stream.leave()
        await self.task


@pytest.mark.parametrize("seed", range(4))
async def test_streams_that_come_and_go_miss_nothing_and_get_nothing_twice(database: Database, seed: int) -> None:
    dice = random.Random(seed)
    filters = [
        Wanted(frozenset(dice.sample(TYPES, dice.randrange(3))), dice.choice([None, *SUBJECTS])) for _ in range(4)
    ]
    log = await logged(database, dice, 30)
    async with house(database, most_events=7) as feeds:
        live: list[Client] = []
        gone: list[Client] = []
        for _ in range(25):
            log += await logged(database, dice, dice.choice([0, 1, 1, 2, 9]))
            await logged(database, dice, 1, "tenant_b")
            await others(dice)
            if live and dice.random() < 0.3:
                left = live.pop(dice.randrange(len(live)))
                await left.leave()
                gone.append(left)
                live.append(Client(feeds, left.wanted, left.position, dice))  # and comes back where it was
            if len(live) < 6:
                after = dice.choice([None, 0, dice.choice(log).id])
                live.append(Client(feeds, dice.choice(filters), after, dice))
        newest = log[-1].id
        for client in live:
            await wait_for(lambda client=client: client.position >= newest)
            await client.leave()
        for client in [*gone, *live]:
            assert client.got == [row.id for row in log if client.took(row)]
        assert feeds._feeds == {}, "nobody listens: nobody reads"


async def test_the_log_is_read_once_for_all_the_streams_of_a_tenant(database: Database) -> None:
    dice = random.Random(0)
    async with house(database) as feeds:
        clients = [Client(feeds, Wanted(), None, dice) for _ in range(50)]
        await wait_for(lambda: all(client.position is not None for client in clients))
        asked: list[str] = []
        hooks.listen(
            database._engine.sync_engine,
            "before_cursor_execute",
            lambda _connection, _cursor, statement, *_: asked.append(statement),
        )
        rows = await logged(database, dice, 5)
        await wait_for(lambda: all(client.got == [row.id for row in rows] for client in clients))
        assert len([statement for statement in asked if statement.startswith("SELECT gateway.events")]) <= 3
        for client in clients:
            await client.leave()


async def test_a_stream_goes_on_when_the_connection_that_listens_was_lost(database: Database) -> None:
    dice = random.Random(0)
    async with house(database) as feeds:
        client = Client(feeds, Wanted(), None, dice)
        await wait_for(lambda: client.position is not None)
        async with await database.own_connection() as connection:
            this = "datname = current_database() AND query LIKE 'LISTEN gateway_events%'"
            killed = await connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {this}")
            assert len(await killed.fetchall()) == 1
        rows = await logged(database, dice, 5)
        await wait_for(lambda: client.got == [row.id for row in rows])
        await client.leave()


async def test_a_stream_goes_on_when_the_log_could_not_be_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.feeds.RETRY_SECONDS", 0.05)
    dice = random.Random(0)
    async with house(database) as feeds:
        client = Client(feeds, Wanted(), None, dice)
        await wait_for(lambda: client.position is not None)
        away = True

        def refuse(*_arguments: Any) -> None:
            if away:
                raise OSError("away")

        hooks.listen(database._engine.sync_engine, "before_cursor_execute", refuse)
        feeds.hub.wake("tenant_a")
        await asyncio.sleep(0)
        away = False
        rows = await logged(database, dice, EVENTS_AT_ONCE + 1)
        await wait_for(lambda: client.got == [row.id for row in rows])
        await client.leave()
