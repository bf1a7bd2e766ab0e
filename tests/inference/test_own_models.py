"""Users' own models behind real walls: they answer as they do in training, and harm nobody but themselves."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from services.inference.artifacts import LoadError
from services.inference.domain import FailureReason
from services.inference.engine import (
    EngineFailedError,
    NotLoadedError,
    OverloadedError,
    PromptError,
    UnusableWeightsError,
)
from services.inference.own_models import GoneError, OwnModels, Terms, pause_seconds
from services.inference.signatures import Signature, SignatureError, Tensor
from sskai.sandbox import GIB
from sskai.testing import wait_for
from tests.inference import own_models
from tests.inference.own_models import MODEL, SIGNATURE

# Every process in them imports torch, on a machine that may be busy.
pytestmark = pytest.mark.timeout(400)
PATIENT = Terms(start_seconds=300)
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
Load = Callable[..., Awaitable[OwnModels]]


@pytest.fixture
def place() -> Iterator[Path]:
    """Where the sandbox's user may pass through; pytest's own folders are closed."""
    with tempfile.TemporaryDirectory(prefix="sskai-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
async def load(place: Path) -> AsyncIterator[Load]:
    """Load a model whose forward has these lines as `m`; nothing of it is left afterwards."""
    made: list[OwnModels] = []

    async def loaded(forward: str = "", *, terms: Terms | None = None, **files: Any) -> OwnModels:
        lines = "".join(f"        {line}\n" for line in forward.splitlines())
        code = files.pop("model", MODEL.replace("        return x", f"{lines}        return x"))
        made.append(OwnModels(terms or PATIENT))
        folder = own_models.write(place / f"model-{len(made)}", model=code, **files)
        await made[-1].load("m", folder)
        return made[-1]

    yield loaded
    for each in made:
        await each.close()
    assert _inside() == []


def _inside() -> list[psutil.Process]:
    """The processes of users' models that this one has."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if "program.zip" in " ".join(each.cmdline()[3:5])]


async def ask(models: OwnModels, rows: np.ndarray[Any, Any] = ROWS) -> np.ndarray[Any, Any]:
    return (await models.infer("m", {"input": rows}))["output"]


async def test_a_version_of_before_signatures_were_written_asks_its_data(place: Path) -> None:
    """Those that have one: test_tensors.py."""
    expected = own_models.build_example("tabular-regressor", place / "m", signed=False)
    models = OwnModels(PATIENT)
    try:
        await models.load("m", place / "m")
        assert models.signature("m").inputs == (Tensor("input", "FP32", (-1, 10)),)
        answer = await ask(models, np.array(expected["inputs"], np.float32))
        np.testing.assert_allclose(answer, np.array(expected["outputs"]), atol=1e-6)
    finally:
        await models.close()


async def test_several_inputs_go_where_forward_wants_them(load: Load) -> None:
    signature = {
        "takes": {"x": "x", "pair": ["pair.0", "pair.1"]},
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "pair.0", "datatype": "INT64", "shape": [-1]},
            {"name": "pair.1", "datatype": "BF16", "shape": [-1]},
        ],
        "outputs": [{"name": "output", "datatype": "BF16", "shape": [-1, 3]}],
    }
    model = MODEL.replace("forward(self, x)", "forward(self, x, pair)").replace(
        "return x * self.scale",
        "assert pair[1].dtype is torch.bfloat16; return (x * pair[0][:, None] + pair[1][:, None]).bfloat16()",
    )
    models = await load(model=model, signature=signature)
    inputs = {"x": ROWS, "pair.0": np.array([1, 2]), "pair.1": np.array([10, 0.5], np.float32)}
    outputs = await models.infer("m", inputs)
    assert outputs["output"].tolist() == [[10, 11, 12], [6.5, 8.5, 10.5]]


async def test_the_code_never_runs_in_this_process_and_reaches_nothing(
    load: Load, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSKAI_OBJECTS_SECRET_KEY", "not-for-the-model")
    private = place / "private"
    private.write_text("not-for-the-model")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        attempts = {
            "the network": f"__import__('socket').create_connection(('127.0.0.1', {port}), timeout=2)",
            "a name": "__import__('socket').getaddrinfo('example.com', 80)",
            "a file": f"open({str(private)!r}).read()",
            "the service's environment": f"open('/proc/{psutil.Process().pid}/environ').read()",
            "a change of its weights": "open(__file__.replace('model.py', 'weights.safetensors'), 'ab')",
            "a variable": "[v for v in __import__('os').environ.values() if 'not-for' in v][0]",
            "the service": f"__import__('os').kill({psutil.Process().pid}, 9)",
        }
        forward = "got = []\n" + "".join(
            f"try: got.append(repr({attempt})) or print({name!r}, got[-1])\nexcept (OSError, IndexError): pass\n"
            for name, attempt in attempts.items()
        )
        models = await load(forward + "x = x + len(got) * 1000")
        assert (await ask(models)).tolist() == (ROWS * 3).tolist()
    import sys

    assert "model" not in sys.modules


MISTAKES = {
    "raise KeyError('row')": "model.py, line 11: KeyError: 'row'",
    "x @ self.scale[None]": "model.py, line 12: RuntimeError",
    "raise SystemExit('enough')": "SystemExit: enough",
}


def one_of(statements: Iterable[str]) -> str:
    """A forward that does the first of these if a row begins with 6, the second for 7, and so on."""
    return "\n".join(f"if x[0, 0] == {6 + place}: {each}" for place, each in enumerate(statements))


async def test_a_mistake_is_told_with_its_line_and_ends_nothing(load: Load) -> None:
    models = await load(one_of(MISTAKES))
    (process,) = _inside()
    for place, words in enumerate(MISTAKES.values()):
        with pytest.raises(PromptError) as caught:
            await ask(models, ROWS + 6 + place)
        assert words in str(caught.value)
        assert (await ask(models)).shape == (2, 3)
    assert _inside() == [process]


SLOW = {
    "any(0 for _ in iter(int, 1))": "more than 5 s for an answer",
    "__import__('time').sleep(600)": "more than 5 s for an answer",
}
ENDS = {
    "[bytearray(b'x' * 2**24) for _ in iter(lambda: __import__('time').sleep(0.01), 1)]": "more than 1.0 GiB of memory",
    "[print('x' * 1000) for _ in iter(int, 1)]": "printed more than 1048576 bytes",
    "__import__('os')._exit(7)": "ended by itself with code 7",
    "__import__('ctypes').string_at(0)": "ended by itself with code -11",
    "[__import__('threading').Thread(target=__import__('time').sleep, args=(60,)).start() for _ in range(70)], "
    "__import__('time').sleep(2)": "more than 64 processes and threads",
    # Wherever its answers go to, by the flag O_WRONLY.
    "[__import__('os').write(n, b'no frame at all, but long enough') for n in (3, 4, 5) "
    "if __import__('fcntl').fcntl(n, __import__('fcntl').F_GETFL) & 1]": "cannot be read",
    "return torch.zeros(2, 2**21)": "bytes; up to",
    "return x[:1]": "[1, 3] for 2 samples",
}


@pytest.mark.timeout(900)  # nine of them
@pytest.mark.parametrize(
    ("ends", "seconds"),
    [
        pytest.param(SLOW, 5, id="time", marks=pytest.mark.heavy),
        pytest.param(ENDS, 100, id="others", marks=pytest.mark.heavy),
    ],
)
async def test_one_that_goes_too_far_is_stopped_and_the_next_request_starts_it_again(
    load: Load, ends: dict[str, str], seconds: int
) -> None:
    models = await load(one_of(ends), terms=replace(PATIENT, answer_seconds=seconds, memory_bytes=GIB))
    before = _inside()
    for place, (statement, words) in enumerate(ends.items()):
        with pytest.raises(EngineFailedError) as caught:
            await ask(models, ROWS + 6 + place)
        assert words in str(caught.value), statement
        assert (await ask(models)).tolist() == (ROWS * 3).tolist(), statement
        assert len(_inside()) == 1
        assert _inside() != before
        before = _inside()


async def test_one_that_was_killed_is_started_again(load: Load) -> None:
    models = await load()
    (first,) = _inside()
    first.kill()
    with pytest.raises(EngineFailedError, match="the model was stopped"):
        await ask(models)
    assert (await ask(models)).tolist() == (ROWS * 3).tolist()


async def test_failures_in_a_row_make_pauses(load: Load) -> None:
    models = await load("__import__('os')._exit(1)")
    for _ in range(3):
        with pytest.raises(EngineFailedError, match="code 1"):
            await ask(models)
    with pytest.raises(EngineFailedError, match=r"stopped 3 times in a row; it is started again in \d+ s"):
        await ask(models)
    assert _inside() == []


@pytest.mark.parametrize(("failures", "seconds"), [(0, 0), (2, 0), (3, 1), (4, 2), (5, 4), (8, 32), (9, 60), (99, 60)])
def test_how_long_a_pause_is(failures: int, seconds: float) -> None:
    assert pause_seconds(failures) == seconds


async def test_requests_take_turns_and_too_many_are_refused(load: Load) -> None:
    models = await load("__import__('time').sleep(0.2)", terms=replace(PATIENT, waiting=1))
    first, second = (asyncio.create_task(ask(models, ROWS + number)) for number in range(2))
    await wait_for(lambda: models.occupancy().waiting == 1)
    with pytest.raises(OverloadedError):
        await ask(models)
    assert (await first).tolist() == (ROWS * 3).tolist()
    assert (await second).tolist() == (ROWS * 3 + 3).tolist()
    assert models.occupancy().active == 0


async def test_an_asker_that_leaves_disturbs_nobody(load: Load) -> None:
    models = await load("__import__('time').sleep(0.2)")
    left = [asyncio.create_task(ask(models, ROWS + 100)) for _ in range(3)]
    await wait_for(lambda: models.occupancy().waiting == 2)
    for each in left:
        each.cancel()
    assert (await ask(models)).tolist() == (ROWS * 3).tolist()


async def test_one_that_is_unloaded_finishes_its_answer_and_goes(load: Load) -> None:
    models = await load("__import__('time').sleep(0.3)")
    answering = asyncio.create_task(ask(models))
    await wait_for(lambda: models.occupancy().active == 1)
    models.retain(set())
    with pytest.raises(NotLoadedError):
        await ask(models)
    assert (await answering).tolist() == (ROWS * 3).tolist()
    await wait_for(lambda: _inside() == [])


async def test_a_model_whose_files_are_gone_is_fetched_anew(load: Load, place: Path) -> None:
    models = await load()
    shutil.rmtree(place / "model-1")
    assert (await ask(models)).shape == (2, 3)
    (process,) = _inside()
    process.kill()
    with pytest.raises(EngineFailedError):
        await ask(models)
    with pytest.raises(GoneError):
        await ask(models)


UNUSABLE = {
    "a mistake": ({"model": "import nothing_like_it\n" + MODEL}, "model.py, line 1: ModuleNotFoundError"),
    "other weights": ({"model": MODEL.replace("scale", "other")}, "weights.safetensors: tensor 'other' is missing"),
    "an exit": ({"model": "import os; os._exit(4)"}, "ended by itself with code 4"),
    "no signature": ({"signature": {"takes": "x", "inputs": [], "outputs": []}}, "inputs: a list of 1 to 16"),
    "neither signature nor data": ({"signature": None, "data": "import nothing_like_it"}, "data.py, line 1"),
    "no end": ({"model": "while True: pass", "terms": Terms(start_seconds=1)}, "not built in 1 s"),
}


@pytest.mark.parametrize(("files", "words"), UNUSABLE.values(), ids=UNUSABLE.keys())
async def test_what_cannot_be_built_is_refused_with_the_reason(load: Load, files: dict[str, Any], words: str) -> None:
    with pytest.raises(UnusableWeightsError) as caught:
        await load(**files)
    assert words in str(caught.value)


async def test_there_is_room_for_so_many(load: Load, place: Path) -> None:
    models = await load(terms=replace(PATIENT, models=1))
    with pytest.raises(LoadError) as caught:
        await models.load("other", place / "model-1")
    assert caught.value.reason == FailureReason.OUT_OF_MEMORY


async def test_without_walls_nothing_runs(load: Load) -> None:
    with pytest.raises(LoadError) as caught:
        await load(terms=Terms(walls=()))
    assert caught.value.reason == FailureReason.NO_SANDBOX


TENSOR = {"name": "x", "datatype": "FP32", "shape": [-1, 3]}
BROKEN: list[tuple[Any, str]] = [
    (None, "no object"),
    ({"inputs": "x"}, "inputs: a list"),
    ({"inputs": [TENSOR] * 17}, "inputs: a list"),
    ({"inputs": [TENSOR, TENSOR]}, "two tensors have one name"),
    ({"inputs": [3]}, r"inputs\.0 is no object"),
    ({"inputs": [{**TENSOR, "name": "a\nb"}]}, r"inputs\.0\.name"),
    ({"inputs": [{**TENSOR, "datatype": "BYTES"}]}, r"inputs\.0\.datatype"),
    ({"inputs": [{**TENSOR, "shape": [3]}]}, r"inputs\.0\.shape"),
    ({"inputs": [{**TENSOR, "shape": [-1, True]}]}, r"inputs\.0\.shape"),
    ({"inputs": [{**TENSOR, "shape": [-1] * 9}]}, r"inputs\.0\.shape"),
    ({"inputs": [TENSOR], "outputs": []}, "outputs: a list"),
]


@pytest.mark.parametrize(("document", "words"), BROKEN)
def test_a_signature_is_believed_in_its_form_alone(document: Any, words: str) -> None:
    with pytest.raises(SignatureError, match=words):
        Signature.parse(document)


def test_a_signature() -> None:
    expected = Tensor("input", "FP32", (-1, 3)), Tensor("output", "FP32", (-1, 3))
    assert Signature.parse(SIGNATURE) == Signature((expected[0],), (expected[1],))
    assert [expected[0].takes(shape) for shape in ([1, 3], [9, 3], [1, 4], [3], [1, 3, 1])] == [
        True,
        True,
        False,
        False,
        False,
    ]
