"""The three real servers as tests and the supervisor use them, and what becomes of their children and data."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import psutil
import psycopg
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sskai.local import kafka, objectstore, postgres
from sskai.local.processes import (
    PORT_RANGE,
    Child,
    ProcessIdentity,
    Program,
    StartError,
    free_ports,
    port_is_free,
    tail,
    wait_until,
)
from sskai.local.supervisor import Keeper
from tests.chaos.disk import Disk


def objects_client(ports: objectstore.Ports, credentials: objectstore.Credentials) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{ports.s3}",
        region_name="us-east-1",
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=5),
    )


def test_postgres_keeps_its_promises_about_time_text_and_passwords():
    with postgres.Postgres.start() as server:
        url = server.url.replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            row = connection.execute(
                "SELECT current_setting('timezone'), current_setting('server_encoding'), datcollate"
                " FROM pg_database WHERE datname = current_database()"
            ).fetchone()
        assert row == ("UTC", "UTF8", "C")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(url.replace("sskai:", "sskai:not", 1))
        folder = server.folder
    assert not folder.exists()


def test_the_durable_database_survives_a_kill_of_all_its_processes(tmp_path_factory):
    folder = Path("/tmp") / f"sskai-durable-{os.getpid()}"
    (port,) = free_ports(1)
    program = postgres.program(folder, port, "secret", tmp_path_factory.mktemp("log") / "postgres.log")
    try:
        child = Child.spawn(program)
        child.wait_ready()
        with psycopg.connect(postgres.url(port, "secret").replace("+psycopg", "")) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        backends = psutil.Process(child.identity.pid).children()
        os.kill(child.identity.pid, signal.SIGKILL)
        assert wait_until(lambda: child.exit_code() is not None, 5)
        assert wait_until(lambda: not any(backend.is_running() for backend in backends), 5)
        again = Child.spawn(program)
        again.wait_ready()
        with psycopg.connect(postgres.url(port, "secret").replace("+psycopg", "")) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
        again.stop()
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


def test_objects_survive_a_kill_and_new_ports(tmp_path):
    credentials = objectstore.Credentials.draw()
    for attempt in range(2):
        ports = objectstore.Ports.choose()
        program = objectstore.program(tmp_path, ports, credentials, tmp_path / "objects.log")
        child = Child.spawn(program)
        child.wait_ready()
        s3 = objects_client(ports, credentials)
        if attempt == 0:
            s3.put_object(Bucket=objectstore.BUCKET, Key="kept", Body=b"7" * 300_000)
            os.kill(child.identity.pid, signal.SIGKILL)
        else:
            assert s3.get_object(Bucket=objectstore.BUCKET, Key="kept")["Body"].read() == b"7" * 300_000
        child.stop()
        assert not any(socket.exists() for socket in objectstore.sockets(ports))
    assert (tmp_path / "s3.json").stat().st_mode & 0o077 == 0


def test_an_object_store_that_met_a_full_disk_takes_writes_again_when_there_is_room(tmp_path):
    disk = Disk(tmp_path / "disk")
    if not disk.mounted:
        pytest.skip(f"a full disk needs the right to mount a tmpfs: {disk.why_not}")
    ports, credentials, log = objectstore.Ports.choose(), objectstore.Credentials.draw(), tmp_path / "objects.log"
    keeper = Keeper(
        "objects", ports.s3, lambda: objectstore.program(disk.folder, ports, credentials, log), changed=lambda: None
    )
    s3 = objects_client(ports, credentials)
    taken = []

    def put(key: str) -> bool:
        try:
            s3.put_object(Bucket=objectstore.BUCKET, Key=key, Body=key.encode())
        except (ClientError, BotoCoreError):
            return False
        taken.append(key)
        return True

    try:
        keeper.start(60)
        assert all(put(f"folder-{n}/first") for n in range(16))
        disk.fill()
        written = itertools.count()

        def index_refuses() -> bool:
            put(f"folder-{next(written) % 16}/x")
            return objectstore.REFUSED_BY_INDEX.search(log.read_bytes()) is not None

        assert wait_until(index_refuses, 60)
        disk.make_room()
        assert not all(put(f"folder-{n}/second") for n in range(16)), "the index recovered by itself"
        assert wait_until(lambda: all(put(f"folder-{n}/third") for n in range(16)), 60)
        assert keeper.state.restarts == 1
        assert all(s3.get_object(Bucket=objectstore.BUCKET, Key=key)["Body"].read() == key.encode() for key in taken)
    finally:
        keeper.stop()
        disk.remove()


def test_the_index_is_ill_only_if_it_refuses_while_there_is_room(tmp_path, monkeypatch):
    log = tmp_path / "objects.log"
    log.write_bytes(b"E1 persisting /a : write /d/filerldb2/07/000001.log: no space left on device\n")
    watch = objectstore.IndexWatch(log, tmp_path)
    room = objectstore.ROOM_BYTES

    def says(line: bytes, free_bytes: int) -> bool:
        monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=free_bytes, f_frsize=1))
        with log.open("ab") as file:
            file.write(line + b"\n")
        return watch.takes_writes()

    index = b"E1 persisting /a : write /d/filerldb2/07/000001.log: no space left on device"
    volume = b"I1 failed to write to local disk: write /d/sskai_3.dat: no space left on device"
    assert says(b"of a server before this one: not ours", room)
    assert says(index, 0)
    assert says(index, room), "it may have been refused before there was room"
    assert not says(index, room)
    assert says(volume, room)
    log.write_bytes(b"")
    assert not says(index, room), "an emptied log is read from its start"


def test_a_server_dies_with_the_process_that_started_it():
    script = (
        "from sskai.local.objectstore import ObjectStore\n"
        "store = ObjectStore.start()\n"
        "print(store.child.identity.pid, store.folder, flush=True)\n"
        "import time; time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as owner:
        pid, folder = owner.stdout.readline().split()
        identity = ProcessIdentity.of(int(pid))
        owner.kill()
    assert wait_until(lambda: not identity.alive(), 5)
    subprocess.run(["rm", "-rf", folder], check=True)


def test_kafka_says_what_to_install_when_there_is_no_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("SSKAI_CACHE", str(tmp_path))
    monkeypatch.setattr(kafka.shutil, "which", lambda _name: None)
    with pytest.raises(StartError, match="install Maven"):
        kafka.jars()


def test_a_program_that_ends_is_reported_with_its_last_words(tmp_path):
    program = Program("part", ["sh", "-c", "echo no such thing; exit 3"], tmp_path / "log", ready=lambda: False)
    with pytest.raises(StartError, match=r"exit code 3(.|\n)*no such thing"):
        Child.spawn(program).wait_ready(5)


def test_a_program_that_is_never_ready_is_given_up_and_stopped(tmp_path):
    program = Program("part", ["sleep", "600"], tmp_path / "log", ready=lambda: False, stop_limit_seconds=1)
    child = Child.spawn(program)
    with pytest.raises(StartError, match=r"not ready within 0\.1 s"):
        child.wait_ready(0.1)
    child.stop()
    assert not child.identity.alive()


def test_a_program_that_ignores_the_stop_signal_is_killed_with_its_group(tmp_path):
    script = "trap '' TERM; sleep 600 & echo $!; wait; wait"
    program = Program("part", ["sh", "-c", script], tmp_path / "log", ready=lambda: True, stop_limit_seconds=0.2)
    child = Child.spawn(program)
    assert wait_until(lambda: tail(program.log).strip().isdigit(), 5)
    helper = ProcessIdentity.of(int(tail(program.log)))
    child.stop()
    assert wait_until(lambda: not helper.alive(), 5)


def test_a_reused_process_id_is_not_the_same_process():
    ourselves = ProcessIdentity.of(os.getpid())
    assert ourselves.alive()
    stranger = ProcessIdentity(os.getpid(), ourselves.started_at - 60)
    assert not stranger.alive()
    assert not stranger.signal_group(signal.SIGTERM)


def test_free_ports_are_distinct_and_outside_the_range_of_outgoing_connections():
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert all(port in PORT_RANGE and port_is_free(port) for port in ports)
    assert not set(free_ports(5, taken=PORT_RANGE[:-5])) & set(PORT_RANGE[:-5])
