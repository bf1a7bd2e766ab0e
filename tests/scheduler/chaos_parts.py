"""Processes of the chaos test: replicas of the scheduler that are killed and stopped, a cloud that may be away."""

from __future__ import annotations

import http.client
import multiprocessing
import os
import signal
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from sskai.local.processes import free_ports, wait_until
from tests.scheduler import chaos_scheduler

START_LIMIT_SECONDS = 60.0
# A process that was forked after its imports is up in a fifth of the time, and there are dozens of starts.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload([chaos_scheduler.__name__])


class Replica:
    """One process of the scheduler, which is started again whenever it was killed."""

    def __init__(self, number: int, folder: Path, environment: Mapping[str, str], lease_seconds: float) -> None:
        self.number = number
        self.stopped = False
        (self._port,) = free_ports(1)
        self._log = folder / f"scheduler-{number}.log"
        self._environment = {**environment, "SSKAI_INSTANCE": str(number), "SSKAI_PORT": str(self._port)}
        self._lease_seconds = lease_seconds
        self.start()

    def start(self) -> None:
        arguments = (self._log, self._environment, self._log.parent, self._lease_seconds)
        self._process = FORKS.Process(target=chaos_scheduler.run, args=arguments)
        self._process.start()

    def ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """kill -9, and a new process at once, as a supervisor would do it."""
        self.end()
        self.start()

    def stand_still(self) -> None:
        self.stopped = True
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.stopped = False
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        self.stopped = False
        self._process.kill()
        self._process.join()

    def _signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def log(self) -> str:
        return self._log.read_text(errors="replace")


class Door:
    """In front of the cloud's API. While `away`, every question about machines is answered with 503."""

    def __init__(self, cloud_url: str) -> None:
        self.away = False
        self.refused = 0
        door, target = self, urlsplit(cloud_url).netloc

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if door.away:
                    door.refused += self.command == "GET"
                    self._answer(503, b'{"error": "away", "detail": "the cloud is away"}')
                    return
                connection = http.client.HTTPConnection(target, timeout=30)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    self._answer(answer.status, answer.read())
                except OSError:
                    self._answer(502, b"{}")
                finally:
                    connection.close()

            do_GET = do_POST = do_PUT = do_DELETE = _pass_on

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                return

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_arguments: object) -> None:
        """A caller that was killed in the middle of its question is no news."""


def wait_ready(replicas: list[Replica]) -> None:
    """Raises AssertionError with the log of one that does not come up."""
    for replica in replicas:
        assert wait_until(replica.ready, START_LIMIT_SECONDS, 0.1), replica.log()[-3000:]
