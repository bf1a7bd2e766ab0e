"""The service's side of profiling a user's own model: fetch the zip, check it, and have it traced in a sandbox."""

from __future__ import annotations

import asyncio
import json
import math
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.optimizer.profiler import ProfileError, WorkerError
from services.optimizer.settings import Settings
from sskai import archives, sandbox
from sskai.archives import ArchiveError
from sskai.objects import NotFoundError, Objects, ObjectsUnavailableError
from sskai.sandbox import Limits, Outcome, SandboxError, Walls

CHASSIS = Path(sandbox.__file__).parent
# What runs inside: an archive that Python runs as a program. Its files are all of ours that can be seen there.
PROGRAM = {
    "__main__.py": Path(__file__).with_name("usermodel.py"),
    "sskai/__init__.py": CHASSIS / "__init__.py",
    "sskai/usermodel.py": CHASSIS / "usermodel.py",
}
COUNTS = (
    "parameters",
    "trainable_parameters",
    "buffers_bytes",
    "flops_forward_per_sample",
    "flops_backward_per_sample",
    "activation_bytes_per_sample",
    "peak_bytes_two_samples",
    "samples",
    "held_out_samples",
    "sample_bytes",
)
MAX_COUNT = 2**63 - 1
MAX_TYPE_LENGTH = 20
MAX_ERROR_LENGTH = 1_000
# The libraries' thread pools would count as processes, and the profile uses one thread.
ENV = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass
class UserProfiler:
    """`await profiler.profile(code_uri)`; requests take turns."""

    objects: Objects
    limits: Limits = field(default_factory=Limits)
    walls: Sequence[Walls] = sandbox.CLOSED
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> UserProfiler:
        limits = Limits(
            wall_seconds=settings.profile_limit_seconds,
            cpu_seconds=math.ceil(settings.profile_limit_seconds),
            memory_bytes=round(settings.user_profile_memory_gib * sandbox.GIB),
        )
        return cls(Objects.from_settings(settings), limits, settings.sandbox_walls)

    async def profile(self, code_uri: str) -> dict[str, Any]:
        """What `usermodel.profile` counts: COUNTS, `dtype` and `learning_rate`.

        Raises ProfileError (the user's), WorkerError (ours).
        """
        async with self._turn:
            with tempfile.TemporaryDirectory(prefix="sskai-usermodel-") as place:
                folder = Path(place)
                folder.chmod(0o711)  # the sandbox's user may have to pass through
                await asyncio.to_thread(self._fetch, code_uri, folder)
                try:
                    outcome = await sandbox.run(
                        folder / "program.zip", folder / "code", limits=self.limits, env=ENV, walls=self.walls
                    )
                except SandboxError as error:
                    raise WorkerError(str(error)) from error
        return counts_of(outcome, self.limits)

    def _fetch(self, code_uri: str, folder: Path) -> None:
        archive, code, program = folder / "code.zip", folder / "code", folder / "program.zip"
        code.mkdir()
        with zipfile.ZipFile(program, "w") as files:
            for name, path in PROGRAM.items():
                files.write(path, name)
        program.chmod(0o644)
        try:
            self.objects.download(self.objects.key(code_uri), archive)
            with archive.open("rb") as file:
                archives.check(file)
                archives.unpack(file, code)
        except ArchiveError as error:
            raise ProfileError(str(error)) from error
        except (NotFoundError, ValueError) as error:
            raise ProfileError(f"the model's code is not in the object store ({error}): upload it again") from error
        except (ObjectsUnavailableError, OSError) as error:
            raise WorkerError(f"the model's code cannot be fetched: {error}") from error


def counts_of(outcome: Outcome, limits: Limits) -> dict[str, Any]:
    """The answer of the program inside, which the user's code could have written as well: believed only in its form."""
    if outcome.killed_for:
        raise ProfileError(_killed(outcome.killed_for, limits))
    try:
        answer = json.loads(outcome.stdout)
        if "error" in answer:
            raise ProfileError(_plain(str(answer["error"])))
        counts = {name: answer[name] for name in COUNTS}
        kind, rate = answer["dtype"], answer["learning_rate"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        last = outcome.stderr_tail.strip().rpartition("\n")[2]
        raise ProfileError(
            f"the program ended with code {outcome.exit_code} before the model was traced: {_plain(last)}"
        ) from error
    for name, value in counts.items():
        if type(value) is not int or not 0 <= value <= MAX_COUNT:
            raise ProfileError(f"the model's {name} came out as {_plain(repr(value))}, which is no count")
    if not isinstance(kind, str) or len(kind) > MAX_TYPE_LENGTH:
        raise ProfileError("the model's dtype came out as something else than a name")
    if type(rate) is not float or not 0 < rate <= 1:
        raise ProfileError(f"the model's learning_rate came out as {_plain(repr(rate))}")
    return {**counts, "dtype": kind, "learning_rate": rate}


def _killed(reason: str, limits: Limits) -> str:
    """What the user can do about a limit."""
    return {
        "time": f"one step of two samples took more than {limits.wall_seconds:g} s: let model.py and data.py load only "
        "what they need, and nothing wait",
        "memory": f"one step of two samples took more than {limits.memory_bytes / sandbox.GIB:.1f} GiB: make the model "
        "or the samples smaller, or read the data sample by sample",
        "processes": f"the model started more than {limits.processes} processes and threads: let it start none",
        "output": f"the model wrote more than {limits.output_bytes} bytes to its output, or more than "
        f"{limits.folder_bytes} bytes of files: print and write less",
    }[reason]


def _plain(text: str) -> str:
    """Text from outside, in one line that PostgreSQL takes."""
    return "".join(each if each.isprintable() else " " for each in text)[:MAX_ERROR_LENGTH]
