"""S12 to S14: what is uploaded runs nowhere, is refused by its content, and takes neither memory nor disk nor time."""

from __future__ import annotations

import ast
import io
import json
import multiprocessing
import os
import stat
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from services.gateway.datasets import Scan
from services.gateway.endpointfile import EndpointFile
from services.gateway.imagefolders import from_zip
from services.gateway.jobfile import JobFile
from services.gateway.rowforms import RejectedError
from services.gateway.tablefiles import from_csv, from_parquet
from services.gateway.weights import RefusedError, check_safetensors
from tests.gateway.conftest import House, serving
from tests.gateway.test_weights import form
from tests.security.alone import Reader, read_alone
from tests.security.conftest import standing
from tests.security.hostile import OTHER_LOADERS, pickles

MIB = 1024 * 1024
ROOT = Path(__file__).parents[2]


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def image() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")
    return out.getvalue()


@contextmanager
def flat(seconds: float, mib: int = 64) -> Iterator[None]:
    """Within this time and so much more memory."""
    process, began = psutil.Process(), time.process_time()
    before = process.memory_info().rss
    yield
    assert time.process_time() - began < seconds
    assert process.memory_info().rss - before < mib * MIB


# S12: pickles


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "ran"


LOADER = """
import pathlib, pickle, sys
canary, ran = pathlib.Path(sys.argv[1]), []
for file in sys.argv[2:]:
    try: pickle.loads(pathlib.Path(file).read_bytes())
    except Exception: pass
    if canary.exists(): ran.append(pathlib.Path(file).name)
    canary.unlink(missing_ok=True)
print("\\n".join(ran))
"""


def test_the_pickles_run_where_they_are_loaded(canary: Path, tmp_path: Path) -> None:
    """Or the tests below would prove nothing."""
    tried = {name: content for name, content in pickles(canary).items() if name not in OTHER_LOADERS}
    for name, content in tried.items():
        (tmp_path / name).write_bytes(content)
    files = [tmp_path / name for name in tried]
    done = subprocess.run([sys.executable, "-c", LOADER, canary, *files], check=True, capture_output=True, text=True)
    assert set(tried) - set(done.stdout.splitlines()) == set()  # a profile prints more
    assert len(pickles(canary)) >= 20


MODEL_NAMES = ("model.safetensors", "tokenizer.json", "merges.txt")


@pytest.mark.asyncio(loop_scope="session")
async def test_no_door_takes_a_pickle(house: House, canary: Path) -> None:
    ann, taken, code = house.ann, [], (b"x = 1\n", b"y = 1\n")
    for name, content in pickles(canary).items():
        sent: list[tuple[str, dict[str, Any]]] = [
            *(("/v1/models", {"data": {"name": "evil"}, "files": form(**{at: content})}) for at in MODEL_NAMES),
            ("/v1/models", {"data": {"name": "evil"}, "files": [*form(), ("files", ("model.pkl", content))]}),
            ("/v1/models", {"data": {"name": "evil"}, "files": [("files", ("pytorch_model.bin", content))]}),
            ("/v1/models", {"data": {"name": "evil"}, "files": [("code", ("code.zip", content))]}),
        ]
        for at in ("data.npy", "notes.txt"):
            inside = zipped(**{"model.py": code[0], "data.py": code[1], at: content})
            sent.append(("/v1/models", {"data": {"name": "evil"}, "files": [("code", ("code.zip", inside))]}))
        for at in ("cat/1.png", "cat/extra.dat"):
            inside = zipped(**{"cat/1.png": image(), "dog/1.png": image(), at: content})
            sent.append(("/v1/datasets?name=evil", {"content": inside, "headers": {"Content-Type": "application/zip"}}))
        sent += [
            ("/v1/datasets?name=evil", {"content": content, "headers": {"Content-Type": kind}})
            for kind in ("text/csv", "application/vnd.apache.parquet", "application/octet-stream")
        ]
        for path, what in sent:
            answer = await ann.post(path, **what)
            if answer.status_code != 422 or not answer.json()["detail"]:
                taken.append((name, path, list(what), answer.status_code, answer.text[:200]))
    assert taken == []
    assert not canary.exists(), "something was executed"
    for path in ("/v1/models", "/v1/datasets"):
        assert "evil" not in (await ann.get(path)).text


# What would unpickle, or run what a file says, anywhere in our code.
FORBIDDEN_CALLS = {
    ("pickle", "load"), ("pickle", "loads"), ("pickle", "Unpickler"), ("torch", "load"), ("joblib", "load"),
    ("marshal", "load"), ("marshal", "loads"), ("shelve", "open"), ("dill", "load"), ("dill", "loads"),
    ("yaml", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load"), ("cloudpickle", "load"), ("cloudpickle", "loads"),
    ("np", "load"), ("numpy", "load"), ("pandas", "read_pickle"),
}  # fmt: skip

SUSPECT = ("trust_remote_code", "allow_pickle")


def test_nothing_of_ours_unpickles() -> None:
    found = []
    for path in (*(ROOT / "services").rglob("*.py"), *(ROOT / "sskai").rglob("*.py")):
        text = path.read_text()
        if not any(word in text for word in (*SUSPECT, *(module for module, _ in FORBIDDEN_CALLS))):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.keyword) and node.arg in SUSPECT:
                if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                    found.append((path.name, node.value.lineno, node.arg))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                of = node.func.value
                if isinstance(of, ast.Name) and (of.id, node.func.attr) in FORBIDDEN_CALLS:
                    given = {keyword.arg: keyword.value for keyword in node.keywords}
                    safe = given.get("allow_pickle") or given.get("weights_only")
                    if not isinstance(safe, ast.Constant) or safe.value not in (False, True):
                        found.append((path.name, node.lineno, f"{of.id}.{node.func.attr}"))
    assert found == []


# S13: safetensors


def header(entries: Any, *, said: int | None = None, body: int = 0) -> tuple[bytes, int]:
    """The file's beginning, and how long it is in all (the rest are holes)."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if said is None else said) + text, 8 + len(text) + body


def entry(dtype: str = "F32", shape: Any = (4,), offsets: Any = (0, 16)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


SAFETENSORS = {
    "a header of 101 MB": (struct.pack("<Q", 101 * MIB) + b"{", 102 * MIB),
    "a header of 2^63 bytes": header({}, said=2**63),
    "a header longer than the file": header({"a": entry()}, said=10_000, body=16),
    "overlapping": header({"a": entry(), "b": entry(offsets=(8, 24))}, body=24),
    "the same bytes twice": header({"a": entry(), "b": entry()}, body=16),
    "past the end": header({"a": entry(offsets=(0, 2**40), shape=(2**38,))}, body=16),
    "a gap": header({"a": entry(offsets=(16, 32))}, body=32),
    "backwards": header({"a": entry(offsets=(16, 0))}, body=16),
    "a negative shape": header({"a": entry(shape=(-1, -4))}, body=16),
    "a shape that overflows": header({"a": entry(shape=(2**62, 2**62, 4))}, body=16),
    "another dtype than its bytes": header({"a": entry("F64")}, body=16),
    "a dtype of nobody": header({"a": entry("PICKLE")}, body=16),
    "no object": header([1, 2, 3]),
}


@pytest.mark.parametrize("name", SAFETENSORS)
def test_a_false_header_is_refused_at_once_at_the_door_and_on_load(name: str, tmp_path: Path) -> None:
    """By the door's own check, and by what trainer and inference open weights with."""
    start, size = SAFETENSORS[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(start)
    os.truncate(path, size)
    with flat(seconds=1, mib=32), path.open("rb") as file, pytest.raises(RefusedError):
        check_safetensors(path.name, file, size)
    with flat(seconds=1, mib=32), pytest.raises(SafetensorError), safe_open(path, framework="numpy") as tensors:
        tensors.keys()


# S14: datasets and archives


def repeated(text: str, rows: int) -> io.BytesIO:
    """Parquet that says one text so many times."""
    column = pyarrow.array([text]).dictionary_encode().take(pyarrow.array([0] * rows))
    out = io.BytesIO()
    table = pyarrow.table({"text": column})
    pyarrow.parquet.write_table(table, out, compression="zstd", dictionary_pagesize_limit=2**30)
    return out


def linked(name: str, target: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        link = zipfile.ZipInfo(name)
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, target)
    return out.getvalue()


def crowded(entries: int) -> bytes:
    """A list of so many entries of no bytes, written without one object for each."""
    one = zipped(**{"a/1.png": b""})
    at = one.index(b"PK\x01\x02")
    listed = one[at : one.index(b"PK\x05\x06")] * entries
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65_535, 65_535, len(listed), at, 0)
    return one[:at] + listed + end


def understated(content: bytes) -> bytes:
    """Its list says that the entry unpacks to ten bytes."""
    made = bytearray(zipped(**{"cat/1.png": content}))
    for mark, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = made.index(mark) + place
        made[at : at + 4] = struct.pack("<L", 10)
    return bytes(made)


BOMB = zipped(**{"cat/1.png": bytes(50 * MIB)})
FILES: dict[str, tuple[Reader, Callable[[], bytes]]] = {
    "a zip of 1:1000": (from_zip, lambda: BOMB),
    "a zip in a zip": (from_zip, lambda: zipped(**{"cat/1.png": image(), "cat/2.png": BOMB})),
    "a zip that says less than it holds": (from_zip, lambda: understated(bytes(5 * MIB))),
    "a way out of the folder": (from_zip, lambda: zipped(**{"../../etc/cron.d/x.png": image()})),
    "an absolute path": (from_zip, lambda: zipped(**{"/etc/x.png": image()})),
    "a symbolic link": (from_zip, lambda: linked("cat/1.png", b"/etc/shadow")),
    "a million entries": (from_zip, lambda: crowded(1_000_000)),
    "Parquet of one text, 20 MB long": (from_parquet, lambda: repeated("x" * 20 * MIB, 100).getvalue()),
    "Parquet that unpacks to 10 GB": (from_parquet, lambda: repeated("x" * 500_000, 20_000).getvalue()),
    "Parquet that is none": (from_parquet, lambda: b"PAR1" + bytes(10 * MIB) + b"PAR1"),
    "Parquet with a footer of 2 GB": (from_parquet, lambda: b"PAR1" + b"\xff\xff\xff\x7fPAR1"),
    "CSV of one cell of 20 MB": (from_csv, lambda: b"text\n" + b"x" * 20 * MIB),
    "CSV with a quote that is not closed": (from_csv, lambda: b'text\n"' + b"x\n" * 10 * MIB),
    "CSV of ten thousand columns": (from_csv, lambda: b",".join(b"c%d" % n for n in range(10_000)) + b"\na\n"),
    "CSV with NUL": (from_csv, lambda: b"text\na\0b\n"),
    "CSV that is no UTF-8": (from_csv, lambda: b"text\n\xff\xfe\n"),
}


@pytest.fixture(scope="module")
def processes() -> Iterator[Executor]:
    """Each call in a new process, which has loaded what reads, and nothing of the other tests."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.security.alone"])
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as executor:
        yield executor


@pytest.mark.parametrize("name", FILES)
def test_what_is_too_much_is_refused_by_reading_a_little(name: str, processes: Executor) -> None:
    read, made = FILES[name]
    content = made()
    took = processes.submit(read_alone, read, content).result(timeout=60)
    assert took.refused
    assert took.cpu_seconds < 4
    assert took.peak_bytes < 192 * MIB  # with the 65 that it may write, and a text of 20 several times over
    assert took.written_bytes <= max(100 * len(content), 65 * MIB)


LINES = {
    "NUL": (b'{"text": "a\0b"}\n', "NUL byte"),
    "no UTF-8": (b'{"text": "\xc3\x28"}\n', "not UTF-8"),
    "a thousand brackets": (b'{"text": ' + b"[" * 100_000 + b"\n", "nested too deeply|not JSON"),
    "a gzip": (b"\x1f\x8b\x08\x00" + bytes(100) + b"\n", "NUL byte|not UTF-8"),
    "a number of a million digits": (b'{"text": 1' + b"0" * 900_000 + b"}\n", "not JSON|must be"),
}


@pytest.mark.parametrize("name", LINES)
def test_a_wrong_line_is_named(name: str) -> None:
    line, reason = LINES[name]
    with flat(seconds=2), pytest.raises(RejectedError, match=reason) as refused:
        Scan().feed(line)
    assert refused.value.row == 1


async def one_line(mib: int) -> Any:
    yield b'{"text": "'
    for _ in range(mib):
        yield b"x" * MIB
    yield b'"}\n'


async def send_one_line(house: House, mib: int) -> None:
    spooled = set(os.listdir(house.world.settings.spool_dir))
    headers = {"Content-Type": "application/jsonl", "Authorization": house.ann.headers["Authorization"]}
    async with serving(standing(house, max_dataset_bytes=2**31)) as url, httpx2.AsyncClient(base_url=url) as ann:
        with flat(seconds=60, mib=96):
            answer = await ann.post("/v1/datasets?name=long", content=one_line(mib), headers=headers, timeout=120)
    assert (answer.status_code, answer.json()["row"]) == (422, 1), answer.text
    assert "longer than" in answer.json()["detail"]
    assert set(os.listdir(house.world.settings.spool_dir)) == spooled


@pytest.mark.asyncio(loop_scope="session")
async def test_a_line_without_end_fills_no_memory(house: House) -> None:
    await send_one_line(house, 32)


@pytest.mark.heavy
@pytest.mark.asyncio(loop_scope="session")
async def test_a_line_of_a_gigabyte_fills_no_memory(house: House) -> None:
    await send_one_line(house, 1_024)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_body_that_says_it_is_packed_is_not_unpacked(house: House) -> None:
    """Nothing of ours decodes `Content-Encoding`: what a gzip holds is no dataset."""
    import gzip

    bomb = gzip.compress(b'{"text": "a"}\n' * 100_000)
    headers = {"Content-Type": "application/jsonl", "Content-Encoding": "gzip"}
    with flat(seconds=5):
        answer = await house.ann.post("/v1/datasets?name=packed", content=bomb, headers=headers)
    assert answer.status_code == 422


FORMULAS = ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1")


@pytest.mark.parametrize("text", FORMULAS)
def test_no_name_is_a_formula(text: str) -> None:
    """What we write into a CSV of costs are names: none of them can begin as a spreadsheet's formula does. Texts of
    datasets may say anything; they are kept as JSON, and never written as CSV."""
    job = {"name": text, "model": {"base": "a"}, "dataset": {"uri": "a"}}
    with pytest.raises(ValidationError, match="name"):
        JobFile.model_validate(job)
    with pytest.raises(ValidationError, match="project"):
        JobFile.model_validate({**job, "name": "a", "project": text})
    served = {"kind": "endpoint", "name": text, "model": {"base": "a"}}
    with pytest.raises(ValidationError, match="name"):
        EndpointFile.model_validate(served)
    out = io.BytesIO()
    from_csv(io.BytesIO(f'text\n"{text} "\n'.encode()), out)
    assert json.loads(out.getvalue())["text"].strip() == text.strip()
