"""The process that writes checkpoints: `python -m services.trainer.writer DESCRIPTOR`, and the hand that leads it.

It hashes and uploads what lies in shared memory (sharedfiles.py), with a low priority, an interpreter of its own and no
torch, so that training waits for none of it. It keeps nothing between two requests but its connection to the object
store: a process that died is replaced, and the request made again.

A request and its answer are one JSON message each over a socket pair; the files travel as descriptors. When the socket
ends, the trainer is gone, and the process ends at once: a manifest that is not written yet never will be.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from services.trainer.checkpoints import Checkpoints, Stored
from services.trainer.domain import FencedError, Point
from sskai.objects import Access, Objects, ObjectsUnavailableError

log = structlog.get_logger()

NICENESS = 10  # about a tenth of a core beside training that takes them all; everything once training waits
MAX_MESSAGE_BYTES = 128 * 1024
MAX_FILES = 200  # descriptors in one message: Linux allows 253
TRIES = 3  # of one request, each with a process of its own
END_SECONDS = 5.0
REPOSITORY = Path(__file__).parents[2]


class WriterLostError(RuntimeError):
    """The writing process died again and again (the kernel's log may say why: memory, most of all)."""


class WriterClosedError(RuntimeError):
    """The attempt ends, and so does what was being written."""


class Writer:
    """`commit` and `prune` of `Checkpoints`, done by the process. One request at a time."""

    def __init__(self, access: Access, checkpoints: Checkpoints) -> None:
        self._access = access
        self._checkpoints = checkpoints  # knows the lineage; the process is told it with each request
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._closed = False

    def start(self) -> None:
        """Have the process ready: its libraries take most of a second to load."""
        with self._lock:
            if self._closed:
                raise WriterClosedError
            if self._socket is not None:
                return
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs, _born_deaf():
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "services.trainer.writer", str(theirs.fileno())],
                    cwd=REPOSITORY,
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                )
            self._socket = ours
            about = {"access": asdict(self._access), **self._checkpoints.identity()}
            with contextlib.suppress(OSError):  # it died already: the first request finds out
                ours.send(json.dumps(about).encode())

    @property
    def pid(self) -> int | None:
        """Of the process that is, or was last, at work."""
        return self._process.pid if self._process else None

    def commit(self, step: int, files: Mapping[str, Path], versions: Mapping[str, str]) -> Stored:
        """As `Checkpoints.commit`. Also raises WriterLostError, WriterClosedError."""
        if len(files) > MAX_FILES:
            raise ValueError(f"{len(files)} files in a checkpoint, over {MAX_FILES}")
        with contextlib.ExitStack() as opened:
            descriptors = []
            for path in files.values():
                descriptors.append(os.open(path, os.O_RDONLY))
                opened.callback(os.close, descriptors[-1])
            request = {"do": "commit", "step": step, "files": list(files), "versions": dict(versions)}
            return Stored(**self._ask(request, descriptors)["stored"])

    def prune(self, keep: int) -> None:
        """As `Checkpoints.prune`."""
        self._ask({"do": "prune", "keep": keep}, [])

    def close(self) -> None:
        """End the process, whatever it is doing."""
        with self._lock:
            self._closed = True
            self._discard()

    def _ask(self, request: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        told = json.dumps({**request, "line": [asdict(point) for point in self._checkpoints.line]}).encode()
        for _ in range(TRIES):
            self.start()
            answer = self._exchange(told, descriptors)
            if answer is not None:
                self._checkpoints.line = [Point(**point) for point in answer["line"]]
                return _checked(answer)
            with self._lock:
                if self._closed:
                    raise WriterClosedError
                self._discard()
            log.warning("the writing process died and is replaced")
        raise WriterLostError(f"the process that writes checkpoints died {TRIES} times over one request")

    def _exchange(self, told: bytes, descriptors: list[int]) -> dict[str, Any] | None:
        """None: the process is gone."""
        connection = self._socket
        if connection is None:
            return None
        try:
            socket.send_fds(connection, [told], descriptors)
            answer = connection.recv(MAX_MESSAGE_BYTES)
        except OSError:
            return None
        return json.loads(answer) if answer else None

    def _discard(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # also wakes a thread that waits for an answer
            self._socket.close()
            self._socket = None
        if self._process is not None:
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


@contextlib.contextmanager
def _born_deaf() -> Iterator[None]:
    """Processes that are started here never hear SIGTERM and SIGINT, which a terminal or a cluster may send to the
    whole group: answering a notice needs the writer. A mask is inherited; a handler would come too late."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    kind, text = answer.get("error"), answer.get("text", "")
    if kind is None:
        return answer
    for known in (FencedError, ObjectsUnavailableError):
        if kind == known.__name__:
            raise known(text)
    raise RuntimeError(f"the writing process: {kind}: {text}")


def main(descriptor: int) -> None:
    """Answer requests until the socket ends."""
    os.nice(NICENESS)
    connection = socket.socket(fileno=descriptor)
    told = connection.recv(MAX_MESSAGE_BYTES)
    if not told:
        return  # the trainer ended before it could say what for
    about = json.loads(told)
    access = about.pop("access")
    os.environ.update(access.pop("role"))  # no code of users runs here
    checkpoints = Checkpoints(Objects(**access), **about)
    requests: queue.SimpleQueue[tuple[dict[str, Any], list[int]]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, requests), daemon=True).start()
    while True:
        request, descriptors = requests.get()
        checkpoints.line = [Point(**point) for point in request["line"]]
        try:
            answer = _do(request, descriptors, checkpoints)
        except Exception as error:
            answer = {"error": type(error).__name__, "text": str(error)[:2000]}
        finally:
            for each in descriptors:
                os.close(each)
        answer["line"] = [asdict(point) for point in checkpoints.line]
        connection.send(json.dumps(answer).encode())


def _listen(connection: socket.socket, requests: queue.SimpleQueue[tuple[dict[str, Any], list[int]]]) -> None:
    while True:
        try:
            told, descriptors, *_ = socket.recv_fds(connection, MAX_MESSAGE_BYTES, MAX_FILES)
        except OSError:  # the trainer died before it read our last answer
            told = b""
        if not told:
            os._exit(0)  # in the middle of whatever is being written
        requests.put((json.loads(told), descriptors))


def _do(request: dict[str, Any], descriptors: list[int], checkpoints: Checkpoints) -> dict[str, Any]:
    if request["do"] == "prune":
        checkpoints.prune(request["keep"])
        return {}
    paths = [Path(f"/proc/self/fd/{each}") for each in descriptors]
    stored = checkpoints.commit(request["step"], dict(zip(request["files"], paths, strict=True)), request["versions"])
    return {"stored": asdict(stored)}


if __name__ == "__main__":
    main(int(sys.argv[1]))
