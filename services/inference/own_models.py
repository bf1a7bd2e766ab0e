"""Users' own models as code, each in a process of its own behind walls (sskai/sandbox_session.py): none of it ever runs
in this one. Tensors go in and out over pipes; what comes back is believed in its form alone.

A model answers one request after the other; so many wait. One that takes too long for an answer, takes too much memory
or dies is ended, and started again by the next request, after failures in a row with growing pauses.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import structlog
from safetensors import SafetensorError

from services.inference import own_model_answers as answers
from services.inference import own_model_frames as frames
from services.inference.artifacts import LoadError
from services.inference.domain import FailureReason
from services.inference.engine import (
    EngineFailedError,
    NotLoadedError,
    Occupancy,
    OverloadedError,
    PromptError,
    UnusableWeightsError,
)
from services.inference.signatures import Signature
from sskai import sandbox
from sskai.sandbox import GIB, Limits, SandboxError, Walls
from sskai.sandbox_session import EndedError, Session

log = structlog.get_logger()

Tensors = Mapping[str, np.ndarray[Any, Any]]

HERE, CHASSIS = Path(__file__).parent, Path(sandbox.__file__).parent
# What runs inside: an archive that Python runs as a program. Its files are all of ours that can be seen there.
PROGRAM = {
    "__main__.py": HERE / "own_model_program.py",
    "services/__init__.py": HERE.parent / "__init__.py",
    "services/inference/__init__.py": HERE / "__init__.py",
    "services/inference/own_model_frames.py": HERE / "own_model_frames.py",
    "sskai/__init__.py": CHASSIS / "__init__.py",
    "sskai/usermodel.py": CHASSIS / "usermodel.py",
    "sskai/usermodel_signature.py": CHASSIS / "usermodel_signature.py",
}
FREE_FAILURES = 2  # in a row, before the first pause
LONGEST_PAUSE_SECONDS = 60.0
FOREVER_SECONDS = 10 * 365 * 86_400


@dataclass(frozen=True, slots=True)
class Terms:
    """Limits of each model. `waiting`: requests beside the one that is answered. `models`: at a time in this process.
    `start_seconds`: for importing torch, building the model and reading its weights."""

    answer_seconds: float = 30.0
    start_seconds: float = 120.0
    memory_bytes: int = 4 * GIB
    waiting: int = 32
    models: int = 8
    threads: int = 1
    walls: Sequence[Walls] = sandbox.CLOSED

    def limits(self) -> Limits:
        return Limits(
            wall_seconds=FOREVER_SECONDS,
            cpu_seconds=FOREVER_SECONDS,
            memory_bytes=self.memory_bytes,
            address_space_bytes=self.memory_bytes + 16 * GIB,  # torch alone maps 3 GiB
        )

    def env(self) -> dict[str, str]:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        return dict.fromkeys(names, str(self.threads))


class GoneError(NotLoadedError):
    """The folder of a model that has to be started again is no longer on disk: it must be fetched anew."""


def pause_seconds(failures: int) -> float:
    """How long a model is left alone after so many failures in a row."""
    if failures <= FREE_FAILURES:
        return 0.0
    return float(min(2.0 ** min(failures - FREE_FAILURES - 1, 10), LONGEST_PAUSE_SECONDS))


class OwnModels:
    """Names are those that whoever loads them chooses. All methods belong into the running event loop: a sandbox dies
    with the thread that started it, and that one must be there as long as the process is."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._models: dict[str, _OwnModel] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._place: Path | None = None

    async def load(self, name: str, folder: Path) -> None:
        """Start the model and prove that it is built. Raises LoadError, UnusableWeightsError."""
        if name in self._models:
            return
        if len(self._models) >= self._terms.models:
            raise LoadError(
                FailureReason.OUT_OF_MEMORY,
                f"{len(self._models)} models as code are loaded here, and there is room for no more",
            )
        await asyncio.to_thread(_open, folder)
        model = _OwnModel(folder, await asyncio.to_thread(self._program), self._terms)
        try:
            await model.start()
        except SandboxError as error:
            raise LoadError(FailureReason.NO_SANDBOX, str(error)) from error
        self._models[name] = model

    def _program(self) -> Path:
        if self._place is None:
            self._place = Path(tempfile.mkdtemp(prefix="sskai-own-models-"))
            self._place.chmod(0o711)  # the sandbox's user may have to pass through
        program = self._place / "program.zip"
        if not program.exists():
            with zipfile.ZipFile(program, "w") as files:
                for name, path in PROGRAM.items():
                    files.write(path, name)
            program.chmod(0o644)
        return program

    def signature(self, name: str) -> Signature:
        """Raises NotLoadedError."""
        return self._loaded(name).signature

    async def infer(self, name: str, inputs: Tensors) -> Tensors:
        """The outputs by name. `inputs`: as the signature names them, all with as many rows.

        Raises NotLoadedError, OverloadedError, PromptError (the model's own code refuses them), EngineFailedError.
        """
        return await self._loaded(name).infer(inputs)

    def _loaded(self, name: str) -> _OwnModel:
        try:
            return self._models[name]
        except KeyError:
            raise NotLoadedError(f"the model {name} is not loaded") from None

    def retain(self, used: AbstractSet[str]) -> None:
        """Keep only these: the others accept nothing more, finish what is under way, and go."""
        for name in [name for name in self._models if name not in used]:
            closing = asyncio.create_task(self._models.pop(name).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def occupancy(self) -> Occupancy:
        under_way = [model.under_way for model in self._models.values()]
        return Occupancy(sum(map(bool, under_way)), sum(max(0, count - 1) for count in under_way))

    async def close(self) -> None:
        """Stop at once; requests under way end with an EngineError."""
        models, self._models = list(self._models.values()), {}
        await asyncio.gather(*(model.stop() for model in models), *self._closing)
        if self._place is not None:
            await asyncio.to_thread(shutil.rmtree, self._place, ignore_errors=True)


class _OwnModel:
    """One version. `under_way`: requests that are answered or wait."""

    def __init__(self, folder: Path, program: Path, terms: Terms) -> None:
        self._folder = folder
        self._program = program
        self._terms = terms
        self._turn = asyncio.Lock()
        self._session: Session | None = None
        self._failures = 0
        self._resting_until = 0.0
        self._closed = False
        self.under_way = 0
        self.signature: Signature

    async def start(self) -> None:
        """Raises UnusableWeightsError, SandboxError."""
        started = time.perf_counter()
        session: Session | None = None
        try:
            async with asyncio.timeout(self._terms.start_seconds):
                terms = self._terms
                session = await Session.start(
                    self._program, self._folder, limits=terms.limits(), env=terms.env(), walls=terms.walls
                )
                self.signature = answers.signature(*await answers.read(session))
        except BaseException as error:
            if session is not None:
                await session.end()
            raise self._unbuilt(error) from error
        self._session = session
        log.info("own model started", walls=session.walls, seconds=round(time.perf_counter() - started, 3))

    def _unbuilt(self, error: BaseException) -> BaseException:
        if isinstance(error, TimeoutError):
            return UnusableWeightsError(f"the model was not built in {self._terms.start_seconds:g} s")
        if isinstance(error, EndedError):
            return UnusableWeightsError(
                f"the model cannot be built: {answers.end(error.outcome, self._terms.limits())}"
            )
        if isinstance(error, ValueError):  # also a SignatureError
            return UnusableWeightsError(f"what the model says of itself cannot be read: {answers.plain(str(error))}")
        return error

    async def infer(self, inputs: Tensors) -> Tensors:
        if self._closed:
            raise NotLoadedError("the model is being unloaded")
        if self.under_way > self._terms.waiting:
            raise OverloadedError(self.under_way)
        self.under_way += 1
        asked = _Asked(safetensors.numpy.save(dict(inputs)), next(iter(inputs.values())).shape[0])
        # Goes on when its asker leaves: what the model says must be read, or the next one would read it.
        answering = asyncio.create_task(self._answer(asked))
        answering.add_done_callback(self._answered)
        try:
            return await asyncio.shield(answering)
        except asyncio.CancelledError:
            asked.left = True
            raise

    def _answered(self, answering: asyncio.Task[Tensors]) -> None:
        self.under_way -= 1
        if not answering.cancelled():
            answering.exception()  # its asker may have left

    async def _answer(self, asked: _Asked) -> Tensors:
        async with self._turn:
            if asked.left:
                return {}
            session = await self._awake()
            try:
                async with asyncio.timeout(self._terms.answer_seconds):
                    await session.write(frames.head(frames.TENSORS, asked.payload) + asked.payload)
                    kind, payload = await answers.read(session)
                if kind == frames.ERROR:
                    self._failures = 0
                    raise PromptError(answers.error(kind, payload))
                outputs = answers.outputs(kind, payload, self.signature, asked.rows)
            except TimeoutError:
                why = f"it took more than {self._terms.answer_seconds:g} s for an answer"
            except EndedError as error:
                why = answers.end(error.outcome, self._terms.limits())
            except (ValueError, SafetensorError) as error:
                why = f"its answer cannot be read: {answers.plain(str(error))}"
            else:
                self._failures = 0
                return outputs
            await self._fail(why)
            raise EngineFailedError(f"the model was stopped: {why}")

    async def _awake(self) -> Session:
        """The running one, or one that is started now. Raises GoneError, EngineFailedError."""
        if self._closed:
            raise NotLoadedError("the model is being unloaded")
        if self._session is not None and self._session.alive:
            return self._session
        if not self._folder.is_dir():
            raise GoneError("the model's files are gone from this machine")
        if (left := self._resting_until - time.monotonic()) > 0:
            raise EngineFailedError(
                f"the model was stopped {self._failures} times in a row; it is started again in {left:.0f} s"
            )
        try:
            await self.start()
        except (UnusableWeightsError, SandboxError) as error:
            await self._fail(str(error))
            raise EngineFailedError(f"the model cannot be started again: {error}") from error
        if self._closed or self._session is None:  # the service has stopped meanwhile
            await self.stop()
            raise NotLoadedError("the model is being unloaded")
        return self._session

    async def _fail(self, why: str) -> None:
        self._failures += 1
        self._resting_until = time.monotonic() + pause_seconds(self._failures)
        log.warning("own model stopped", why=why, failures=self._failures)
        session, self._session = self._session, None
        if session is not None:
            await session.end()

    async def close(self) -> None:
        """Accept nothing more, finish what is answered now, and go."""
        self._closed = True
        async with self._turn:
            await self.stop()

    async def stop(self) -> None:
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.end()


@dataclass(slots=True)
class _Asked:
    payload: bytes
    rows: int
    left: bool = False  # nobody waits for it any more


def _open(folder: Path) -> None:
    """Let the sandbox's user read it, whatever the service's umask is."""
    if os.getuid() == 0:
        for path in (folder, *folder.iterdir()):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
