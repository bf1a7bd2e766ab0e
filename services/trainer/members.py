"""What a process knows of the gang that it is part of, by its environment alone. No torch here."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from services.trainer.domain import Exit

PR_SET_PDEATHSIG = 1  # linux/prctl.h
NOTICED = "noticed"  # a file in the gang's folder: the agent was sent away
# Whose end says most, when workers of one machine ended differently.
TELLING = (Exit.FENCED, Exit.USER_ERROR, Exit.OUT_OF_MEMORY, Exit.MISCONFIGURED, Exit.INTERNAL, Exit.UNAVAILABLE)


def machines() -> int:
    """Of this attempt, as its scheduler told."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def alone() -> bool:
    """Whether one process is the whole attempt."""
    return machines() == 1


def rank() -> int:
    """Of this worker among all; 0: it speaks for the attempt."""
    return int(os.environ.get("RANK", "0"))


def on_this_machine(wanted: int) -> int:
    """How many workers this machine has: as wanted, else one for each GPU, and one without any."""
    if wanted:
        return wanted
    if len(list(Path("/dev").glob("nvidia[0-9]*"))) < 2:
        return 1
    import torch

    return max(1, int(torch.cuda.device_count()))


def end_with_agent() -> None:
    """Have the kernel kill this worker when its agent dies. Torch gives each worker a session of its own, so what is
    sent to the agent's group does not reach it, and it would train on in a group that goes on without it.

    The signal comes when the thread ends that started us: the agent's main thread.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != int(os.environ["SSKAI_GANG_AGENT"]):  # it died before
        os._exit(Exit.WORKER_LOST)


def say_end(folder: Path, worker: int, code: Exit) -> None:
    """For the agent: this worker ended in order, so."""
    (folder / f"ended-{worker}").write_text(str(int(code)))


def ends(folder: Path) -> list[Exit]:
    """Of those workers of this machine that ended in order."""
    return [Exit(int(path.read_text() or Exit.INTERNAL)) for path in sorted(folder.glob("ended-*"))]


def telling(codes: Iterable[Exit]) -> Exit:
    """The end of a machine from its workers' ends."""
    known = list(codes)
    return next((code for code in TELLING if code in known), max(known, default=Exit.INTERNAL))
