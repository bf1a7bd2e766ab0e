"""The services' PostgreSQL in simulated time: a real server, whose statements are steps of the simulation.

A statement takes simulated time first, then runs to its end while nothing else does. One that waits for another's lock
is set aside until the lock is free, so transactions interleave as they would. The server's clock is the simulation's:
`now()` and `clock_timestamp()` are functions of the schema `sim`, which stands before `pg_catalog` in the search path
and reads a small file.
"""

from __future__ import annotations

import asyncio
import os
import select
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus
from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from simulation import globals as simulated
from simulation.listening import OwnConnection
from simulation.loop import ACTOR, Actor, wait_here
from simulation.trace import Trace
from sskai.database import Database, _alone, migrate, plain_url
from sskai.local.postgres import Postgres
from sskai.statements import EXECUTE

SERVICES = ("gateway", "optimizer", "scheduler", "trainer", "inference", "monitor")
# Two transactions that wait for each other: the later one is refused, soon enough for a test and late enough for
# whoever waits already to have looked.
DEADLOCK_SECONDS = 0.01
ANSWER_SECONDS = 0.005  # a statement that takes longer may be waiting for a lock
MAX_CONNECTIONS = 150
STATEMENT_SECONDS = 30.0  # as `sskai.database` tells the server: here in simulated time
IDLE_SECONDS = 60.0


_WRITTEN = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname = ANY(%s) AND c.relname <> 'alembic_version' AND pg_relation_size(c.oid) > 0
"""


@dataclass
class Weather:
    """What the database's clients meet. Drawn from the seed."""

    least_seconds: float = 0.0002
    most_seconds: float = 0.002
    lost_answers: float = 0.0  # share of commits that are done and reported as failed
    away: bool = False


class SimulatedCursor(psycopg.Cursor[Any]):
    """All its rows are here."""

    async def _async_soft_close(self) -> None:
        """SQLAlchemy asks asyncio drivers for it."""


class SimulatedConnection(psycopg.Connection[Any]):
    """A connection whose owner is an actor while a transaction has it."""

    world: Server | None = None
    owner: Actor | None = None
    killed = False
    told = False  # the running transaction writes to an outbox

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        world = self.world
        if world is None or self.owner is None or not world.running:
            return super().wait(gen, interval, timeout)
        self._check()
        world.before_statement(self)
        self._check()
        return self._run(gen, world)

    def _check(self) -> None:
        """Raises OperationalError if either end is gone."""
        dead = self.owner is not None and not self.owner.alive
        if self.killed or dead or (self.world is not None and self.world.weather.away):
            raise errors.OperationalError("server closed the connection unexpectedly (simulated)")

    def _run(self, gen: Any, world: Server) -> Any:
        world.statements += 1
        poller = select.poll()
        poller.register(self.fileno(), select.POLLIN)
        blocked_since: float | None = None
        try:
            wanted = next(gen)
            while True:
                if wanted & 2:  # ready to write: it always is
                    wanted = gen.send(2)
                    continue
                while not poller.poll(ANSWER_SECONDS * 1000):
                    if world.is_blocked(self):
                        blocked_since = blocked_since or world.time()
                        world.park(self, blocked_since)
                        self._check()
                wanted = gen.send(1)
        except StopIteration as done:
            return done.value
        except BaseException:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self._stop_statement()
            raise

    def commit(self) -> None:
        super().commit()
        if self.world is not None and self.owner is not None and self.world.running:
            self.world.ended(self, committed=True)

    def rollback(self) -> None:
        if self.killed:
            return  # the server did it already
        # It waits for nobody and takes no time: whoever gives up need not wait for it.
        owner, self.owner = self.owner, None
        super().rollback()
        self.owner = owner
        if self.world is not None and self.owner is not None and self.world.running:
            self.world.ended(self, committed=False)

    def _stop_statement(self) -> None:
        self.cancel_safe(timeout=5)
        while True:
            self.pgconn.consume_input()
            while self.pgconn.is_busy():
                select.select([self.fileno()], [], [], 1)
                self.pgconn.consume_input()
            if self.pgconn.get_result() is None:
                return

    def close(self) -> None:
        """What is open is rolled back now, not when the server notices."""
        if not self.closed and self.pgconn.transaction_status != TransactionStatus.IDLE:
            self.kill()
        super().close()

    def kill(self) -> None:
        """The client or the server is gone: the server rolls back, at once."""
        self.killed = True
        if self.world is not None and (waiting := self.world.parked.pop(self, None)) is not None:
            waiting.set()
        if self.closed:
            return
        if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
            self._stop_statement()
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            self.pgconn.exec_(b"ROLLBACK")


class SimulatedDatabase(Database):
    """A service's door to the simulated server."""

    server: Server

    def __init__(self, url: str, schema: str, *, pool_size: int = 10) -> None:
        self.url = url
        self.schema = schema
        self.around = _alone
        self.max_connections = 2 * pool_size
        self._engine = self.server.async_engine
        info = {"schema": schema, EXECUTE: self._execute}
        self._sessions = async_sessionmaker(self._engine, expire_on_commit=False, info=info)

    async def own_connection(self, *, waits_for_disk: bool = True) -> Any:  # noqa: ARG002 (as the real one)
        await asyncio.sleep(self.server.weather.most_seconds)
        return OwnConnection(self.server)

    async def close(self) -> None:
        """The engine is shared, and stays."""

    async def _execute(self, session: AsyncSession, statement: str, values: Mapping[str, Any]) -> Sequence[Any]:
        found = await (await session.connection()).exec_driver_sql(statement, dict(values))
        return found.all() if found.returns_rows else []


@dataclass
class Server:
    """One server for many runs, one after the other."""

    postgres: Postgres
    folder: Path
    trace: Trace = field(default_factory=Trace)
    weather: Weather = field(default_factory=Weather)
    running: bool = False
    statements: int = 0

    @classmethod
    def start(cls) -> Server:
        folder = Path(tempfile.mkdtemp(prefix="sskai-simulation-"))
        folder.chmod(0o755)
        server = cls(Postgres.start(), folder)
        server._prepare()
        return server

    def __post_init__(self) -> None:
        self.connections: list[SimulatedConnection] = []
        self.parked: dict[SimulatedConnection, asyncio.Event] = {}
        self.listeners: dict[str, dict[asyncio.Event, None]] = {}
        self.locks: dict[str, Actor] = {}
        self.epoch = 0
        self.on_commit: Callable[[str], None] = lambda _service: None
        self._clock_file = self.folder / "clock"
        self._clock = os.open(self._clock_file, os.O_CREAT | os.O_WRONLY, 0o644)
        os.fchmod(self._clock, 0o644)
        self._clock_at = -1.0
        self._write_clock(0.0)

    def stop(self) -> None:
        self.engine.dispose()
        self._watcher.close()
        self.postgres.stop()
        os.close(self._clock)
        self._clock_file.unlink()
        self.folder.rmdir()

    def _prepare(self) -> None:
        self._dsn = plain_url(self.postgres.url)
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            connection.execute("CREATE SCHEMA sim")
            for name in ("now", "clock_timestamp"):
                connection.execute(
                    f"CREATE FUNCTION sim.{name}() RETURNS timestamptz LANGUAGE sql STABLE AS "
                    f"$$ SELECT pg_read_file('{self._clock_file}')::timestamptz $$"
                )
            for setting in (
                "autovacuum = off",
                f"deadlock_timeout = '{round(DEADLOCK_SECONDS * 1000)}ms'",
                "plan_cache_mode = force_generic_plan",
                "search_path = sim, pg_catalog, public",
            ):
                connection.execute(f"ALTER SYSTEM SET {setting}")
            connection.execute("SELECT pg_reload_conf()")
        for service in SERVICES:
            migrate(self.postgres.url, service)
        self._watcher = psycopg.connect(self._dsn, autocommit=True)
        self.engine = create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            pool_size=MAX_CONNECTIONS,
            max_overflow=0,
            pool_use_lifo=True,
        )
        event.listen(self.engine, "checkout", self._checked_out)
        event.listen(self.engine, "checkin", self._checked_in)
        event.listen(self.engine, "before_cursor_execute", self._note_outbox)
        with self.engine.connect():
            """The dialect asks the server about itself, once."""
        # What it does it does in greenlets, as asyncio's drivers: nobody above need know that nothing is awaited.
        self.engine.dialect.is_async = True
        self.async_engine = AsyncEngine(self.engine)

    def _connect(self) -> SimulatedConnection:
        connection = SimulatedConnection.connect(self._dsn, prepare_threshold=0)
        connection.world, connection.cursor_factory = self, SimulatedCursor
        self.connections.append(connection)
        return connection

    def _checked_out(self, connection: Any, _record: Any, _proxy: Any) -> None:
        connection.owner, connection.killed, connection.told = ACTOR.get(), False, False

    def _checked_in(self, connection: Any, _record: Any) -> None:
        if connection is not None:
            connection.owner = None

    @staticmethod
    def _note_outbox(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if statement.startswith("INSERT") and "outbox" in statement[:40]:
            connection.connection.dbapi_connection.told = True

    def begin(self, trace: Trace, weather: Weather) -> None:
        """A run begins, with empty tables."""
        self.trace, self.weather, self.statements = trace, weather, 0
        self._empty_tables()
        self.parked.clear()
        self.listeners.clear()
        self.locks.clear()
        self.running = True

    def end(self) -> None:
        """The run is over; what was open is rolled back."""
        self.running = False
        self.engine.dispose()
        for connection in self.connections:
            connection.close()
        self.connections.clear()

    def _empty_tables(self) -> None:
        """As after the migrations: tables that were written to, their indexes and sequences begin anew."""
        found = self._watcher.execute(_WRITTEN, (list(SERVICES),)).fetchall()
        if found:
            self._watcher.execute(f"TRUNCATE {', '.join(name for (name,) in found)} RESTART IDENTITY CASCADE")

    def ask(self, query: str) -> list[Any]:
        """What is committed, for who watches from outside."""
        return self._watcher.execute(query).fetchall()

    def time(self) -> float:
        assert simulated.SOURCES.loop is not None
        return simulated.SOURCES.loop.time()

    def _write_clock(self, seconds: float) -> None:
        if seconds != self._clock_at:
            at = simulated.EPOCH + timedelta(seconds=seconds)
            os.pwrite(self._clock, at.strftime("%Y-%m-%d %H:%M:%S.%f+00").encode(), 0)
            self._clock_at = seconds

    def before_statement(self, connection: SimulatedConnection) -> None:
        """It takes a moment to get there."""
        assert connection.owner is not None
        weather = self.weather
        wait_here(asyncio.sleep(simulated.SOURCES.dice.uniform(weather.least_seconds, weather.most_seconds)))
        self._write_clock(self.time())
        self.trace.say("statement")

    def is_blocked(self, connection: SimulatedConnection) -> bool:
        row = self._watcher.execute("SELECT pg_blocking_pids(%s)", (connection.pgconn.backend_pid,)).fetchone()
        return bool(row and row[0])

    def park(self, connection: SimulatedConnection, since: float) -> None:
        """Let others go on until a lock may be free. Raises QueryCanceled after the server's limit."""
        # Whoever waits already must have looked for a deadlock before anybody else begins to wait.
        select.select([connection.fileno()], [], [], 2 * DEADLOCK_SECONDS)
        if not self.is_blocked(connection):
            return
        self.trace.say("blocked")
        ended = self.parked[connection] = asyncio.Event()
        try:
            wait_here(self._until(ended, since + STATEMENT_SECONDS - self.time()))
        finally:
            self.parked.pop(connection, None)
        if self.time() - since >= STATEMENT_SECONDS and self.is_blocked(connection):
            connection.cancel_safe(timeout=5)

    @staticmethod
    async def _until(ended: asyncio.Event, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), max(0.0, seconds))

    def ended(self, connection: SimulatedConnection, *, committed: bool) -> None:
        """A transaction is over: its locks are free, and before anything else happens those who waited get them."""
        self._settle()
        assert connection.owner is not None
        if committed:
            self.on_commit(connection.owner.name.split("/")[0])
        if committed and connection.told:
            connection.told = False
            for listener in self.listeners.get(connection.owner.name.split("/")[0], ()):
                listener.set()
        if committed and simulated.SOURCES.dice.random() < self.weather.lost_answers:
            self.trace.say("fault", "a commit was done, and its answer lost")
            raise errors.OperationalError("connection lost after COMMIT (simulated)")

    def _settle(self) -> None:
        for connection, event_ in list(self.parked.items()):
            while not select.select([connection.fileno()], [], [], 0)[0]:
                if self.is_blocked(connection):
                    break
            else:
                event_.set()

    def forget(self, actor: Actor) -> None:
        """The actor's process died."""
        for connection in self.connections:
            if connection.owner is actor and not connection.killed:
                connection.kill()
        self._settle()

    def restart(self) -> None:
        """The server dies and comes back: every transaction is rolled back, every connection lost."""
        self.epoch += 1
        for connection in self.connections:
            if connection.owner is not None and not connection.killed:
                connection.kill()
        self._settle()
