"""The pod of a machine that has several workers, or is one of several: torch's elastic agent, as `torchrun` runs it.

It starts the workers of this machine (`python -m services.trainer.pod` again, each with its rank), and when one
anywhere is lost all agents that are left meet again and start the group anew. A worker that ends in order says how in a
file and exits 0; only one that was killed, or lost another, is started again.

The meeting place is the pod of rank 0's machine: when that is lost, the attempt ends, and the scheduler launches the
next.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
from torch.distributed import DistError, TCPStore
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.elastic.rendezvous import RendezvousError, RendezvousParameters
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import create_handler

from services.trainer import members
from services.trainer.domain import Exit
from services.trainer.settings import PodSettings
from sskai import telemetry

log = structlog.get_logger()

# Machines of a gang are launched together; one that is later joins all the same, at the price of a restart.
GATHER_SECONDS = 120.0
# A machine whose agent is silent for 3 x 2 s is lost; those that are there wait another 3 s for more.
MEETING = {"keep_alive_interval": 2, "keep_alive_max_attempt": 3, "last_call_timeout": 3, "join_timeout": 300}
RESTARTS = 3  # of workers that died, beside one for each machine that may be lost
POLL_SECONDS = 0.2
# Who is stuck waiting for a worker that ended in order does not hold the machine for ever.
ENDING_SECONDS = 60.0
LEAVE_SECONDS = 10.0


def main(settings: PodSettings) -> Exit:
    """Returns what the pod exits with."""
    telemetry.setup("trainer", settings.otlp_url, settings.log_level)
    structlog.contextvars.bind_contextvars(job_id=settings.job_id, attempt=settings.attempt, machine=members.rank())
    folder = Path(tempfile.mkdtemp(prefix="sskai-gang-"))
    try:
        return _Machine(settings, folder).run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Machine:
    """This machine's part of the gang."""

    def __init__(self, settings: PodSettings, folder: Path) -> None:
        self._settings = settings
        self._folder = folder
        self._rank, self._machines = members.rank(), members.machines()
        self._workers = members.on_this_machine(settings.trainer_workers)
        self._agent: _Agent | None = None
        self._over = threading.Event()

    def run(self) -> Exit:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        # Workers inherit it, and take it once they can answer.
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        host = os.environ.get("MASTER_ADDR", "127.0.0.1")
        port = int(os.environ.get("MASTER_PORT", "0")) if self._machines > 1 else 0
        try:
            store = TCPStore(
                host, port, is_master=self._rank == 0, wait_for_workers=False, timeout=timedelta(seconds=GATHER_SECONDS)
            )
            self._gather(store)
            code = self._meet(store, host)
        except (DistError, RendezvousError) as error:
            log.warning("the gang's meeting place is away", error=str(error))
            ended = members.ends(self._folder)
            return members.telling(ended) if ended else Exit.UNAVAILABLE
        with suppress(DistError):
            self._leave(store)
        return code

    def _gather(self, store: TCPStore) -> None:
        until = time.monotonic() + GATHER_SECONDS
        store.add("arrived", 1)
        while store.add("arrived", 0) < self._machines and time.monotonic() < until:
            time.sleep(POLL_SECONDS)

    def _meet(self, store: TCPStore, host: str) -> Exit:
        mine = secrets.token_hex(8).encode()
        secret = store.compare_set("secret", "", mine).decode()
        os.environ["SSKAI_GANG_SECRET"] = secret
        os.environ["SSKAI_GANG_FOLDER"] = str(self._folder)
        os.environ["SSKAI_GANG_AGENT"] = str(os.getpid())
        if "SSKAI_TRAINER_THREADS" not in os.environ:
            os.environ["SSKAI_TRAINER_THREADS"] = str(max(1, (os.cpu_count() or 1) // self._workers))
        here = host in ("127.0.0.1", "localhost")
        if here:
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        # Each group of workers gets a store of its own, so that nothing of the one before is read.
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"  # the others are ours
        address = "127.0.0.1" if here else socket.getfqdn()
        about = RendezvousParameters(
            "c10d", "", self._settings.job_id, 1, self._machines, local_addr=address, **MEETING
        )
        backend = C10dRendezvousBackend(store, self._settings.job_id)
        spec = WorkerSpec(
            role="trainer",
            local_world_size=self._workers,
            entrypoint=sys.executable,
            args=("-m", "services.trainer.pod"),
            rdzv_handler=create_handler(store, backend, about),
            max_restarts=RESTARTS + self._machines - 1,
            monitor_interval=POLL_SECONDS,
            local_addr=address,
        )
        self._agent = _Agent(spec, self._folder)
        threading.Thread(target=self._watch_notice, args=(store.clone(),), name="notice", daemon=True).start()
        result = self._agent.run()
        self._over.set()
        spec.rdzv_handler.shutdown()
        ended = members.ends(self._folder)
        if result.is_failed() and not ended:
            log.error("workers died too often", failures=[str(one) for one in result.failures.values()])
            return Exit.INTERNAL
        return members.telling(ended)

    def _leave(self, store: TCPStore) -> None:
        """The meeting place closes last."""
        until = time.monotonic() + LEAVE_SECONDS
        store.add("left", 1)
        while self._rank == 0 and store.add("left", 0) < self._machines and time.monotonic() < until:
            time.sleep(POLL_SECONDS)

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        """A notice. A second one, or one before there are workers, ends the machine at once: what is saved is saved."""
        pids = self._agent.pids() if self._agent else []
        notice = self._folder / members.NOTICED
        if notice.exists() or not pids:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            os._exit(Exit.KILLED)
        self._notice()

    def _notice(self) -> None:
        (self._folder / members.NOTICED).touch()
        for pid in self._agent.pids() if self._agent else []:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGUSR1)

    def _watch_notice(self, store: Any) -> None:
        """A notice to one machine is one to all of them: they save once, together."""
        notice = self._folder / members.NOTICED
        with suppress(DistError):
            while not self._over.wait(POLL_SECONDS):
                if notice.exists():
                    store.set(members.NOTICED, "1")
                    return
                if store.check([members.NOTICED]):
                    self._notice()
                    return


class _Agent(LocalElasticAgent):  # type: ignore[misc]
    """Torch's, which starts nobody again once a worker has ended in order."""

    def __init__(self, spec: WorkerSpec, folder: Path) -> None:
        super().__init__(spec, DefaultLogsSpecs(), exit_barrier_timeout=ENDING_SECONDS)
        self._folder = folder
        self._ending_since = 0.0

    def pids(self) -> list[int]:
        return list(self._pcontext.pids().values()) if self._pcontext else []

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if any(members.ends(self._folder)):
            self._remaining_restarts = 0
            self._ending_since = self._ending_since or time.monotonic()
            if result.state is WorkerState.HEALTHY and time.monotonic() - self._ending_since > ENDING_SECONDS:
                return RunResult(state=WorkerState.FAILED)
        elif result.state is WorkerState.HEALTHY and self._misses_a_machine(worker_group):
            log.warning("a machine of the gang is silent; meeting again without it")
            return RunResult(state=WorkerState.FAILED)
        return result

    def _misses_a_machine(self, worker_group: WorkerGroup) -> bool:
        """Whether an agent of this group tells nothing any more. One that vanished with its machine closed no
        connection: its peers' exchange would wait for it for half an hour. Torch knows, and says it to nobody."""
        state = worker_group.spec.rdzv_handler._state_holder.state
        return bool(state.complete) and len(state.participants) < (worker_group.group_world_size or 0)
