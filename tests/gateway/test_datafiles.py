"""CSV, Parquet and zips of images become datasets, or are refused with their row and reason."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from services.gateway import imagefolders
from services.gateway.imagefolders import from_zip
from services.gateway.rowforms import RejectedError
from services.gateway.tablefiles import from_csv, from_parquet
from sskai.events import v1 as events
from tests.gateway.conftest import House


def image(size: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "red").save(out, kind)
    return out.getvalue()


def zipped(**files: bytes) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out


def parquet(rows: list[Any]) -> io.BytesIO:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    out.seek(0)
    return out


def test_csv_rows_become_lines() -> None:
    out = io.BytesIO()
    data = 'text,label,other\n"a, ""b""\nc",spam,1\ngrüße,ham,\n'.encode()
    summary = from_csv(io.BytesIO(b"\xef\xbb\xbf" + data), out)
    assert (summary.format, summary.rows, summary.report["labels"]) == ("classification", 2, ["ham", "spam"])
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(row["text"], row["label"]) for row in rows] == [('a, "b"\nc', "spam"), ("grüße", "ham")]
    assert summary.bytes == len(out.getvalue())


@pytest.mark.parametrize(
    ("data", "row", "column", "reason"),
    [
        (b"", 0, "", "no rows"),
        (b"text\n", 0, "", "no rows"),
        (b"question\na\n", 1, "", "the columns are question"),
        (b"text,text\na,b\n", 0, "", "each once"),
        (b"text,source\na,b\nc\n", 2, "", "1 cells"),
        (b"prompt,completion\na,b\nc,\n", 2, "completion", "is empty"),
        (b'text\n"a\n', 1, "", "not CSV"),
        (b"text\n\xff\n", 0, "", "line 2: not UTF-8"),
        (b"messages\nhello\n", 1, "messages", "written as JSON"),
        (b"text\n" + b"x" * 1_000_001, 0, "", "over 1000000 bytes"),
        (b"text\n" + b'"' + b"x\n" * 600_000, 0, "", "a quote not closed"),
    ],
)
def test_a_wrong_csv_file_is_refused(data: bytes, row: int, column: str, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason) as refused:
        from_csv(io.BytesIO(data), io.BytesIO())
    assert (refused.value.row, refused.value.column) == (row, column)


def test_parquet_rows_become_lines() -> None:
    out = io.BytesIO()
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    summary = from_parquet(parquet([{"messages": turns, "id": index} for index in range(200)]), out)
    assert (summary.format, summary.rows, summary.report["duplicates"]) == ("messages", 200, 199)
    assert json.loads(out.getvalue().splitlines()[0]) == {"messages": turns}


@pytest.mark.parametrize(
    ("file", "row", "column", "reason"),
    [
        (parquet([{"text": "a"}, {"text": None}]), 2, "text", "must be a text, not null"),
        (parquet([{"question": "a"}]), 0, "", "the columns are question"),
        (io.BytesIO(b"PAR1" + b"x" * 100), 0, "", "not Parquet"),
    ],
    ids=["null", "columns", "torn"],
)
def test_a_wrong_parquet_file_is_refused(file: io.BytesIO, row: int, column: str, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason) as refused:
        from_parquet(file, io.BytesIO())
    assert (refused.value.row, refused.value.column) == (row, column)


def test_class_folders_are_a_classification_of_images() -> None:
    out, file = io.BytesIO(), zipped(**{"cat/1.png": image(), "cat/2.jpg": image(kind="JPEG"), "dog/1.png": image()})
    summary = from_zip(file, out)
    assert (summary.format, summary.rows) == ("image-classification", 3)
    assert summary.report["rows_per_class"] == {"cat": 2, "dog": 1}
    assert out.getvalue() == file.getvalue()


def test_images_with_their_texts_are_told_by_the_metadata() -> None:
    lines = b'{"file_name": "1.png", "text": "a cat"}\n'
    summary = from_zip(zipped(**{"train/1.png": image(), "train/metadata.jsonl": lines}), io.BytesIO())
    assert (summary.format, summary.rows) == ("text-to-image", 1)


@pytest.mark.parametrize(
    ("files", "row", "column", "reason"),
    [
        ({"a.txt": b"a"}, 0, "", "no PNG or JPEG"),
        ({"1.png": image()}, 1, "1.png", "lies in no folder"),
        ({"cat/1.png": image()}, 0, "", "two folders"),
        ({"cat/1.png": b"no image"}, 1, "cat/1.png", "no PNG or JPEG image"),
        ({"cat/1.png": pickle.dumps(zipfile.ZipFile)}, 0, "cat/1.png", "pickle"),
        ({"1.png": image(), "metadata.jsonl": b'{"file_name": "2.png", "text": "a"}'}, 1, "file_name", "no image"),
        ({"1.png": image(), "metadata.jsonl": b'{"file_name": "1.png"}'}, 1, "metadata.jsonl", "both texts"),
        ({"1.png": image(), "metadata.jsonl": b""}, 0, "metadata.jsonl", "no lines"),
    ],
)
def test_a_wrong_zip_is_refused(files: dict[str, bytes], row: int, column: str, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason) as refused:
        from_zip(zipped(**files), io.BytesIO())
    assert (refused.value.row, refused.value.column) == (row, column)


def test_an_image_of_too_many_pixels_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagefolders, "MAX_PIXELS", 100)
    with pytest.raises(RejectedError, match="400 x 1 pixels"):
        from_zip(zipped(**{"cat/1.png": image((400, 1))}), io.BytesIO())


@pytest.mark.asyncio(loop_scope="session")
async def test_every_kind_of_file_comes_in_by_the_same_door(house: House) -> None:
    images = zipped(**{"cat/1.png": image(), "dog/1.png": image()}).getvalue()
    for name, media_type, content, told in (
        ("csv", "text/csv", b"text\nhello\n", "text"),
        ("parquet", "application/octet-stream", parquet([{"text": "hello"}]).getvalue(), "text"),
        ("images", "application/zip", images, "image-classification"),
    ):
        sent = {"params": {"name": name}, "content": content, "headers": {"Content-Type": media_type}}
        answer = await house.ann.post("/v1/datasets", **sent)
        assert (answer.status_code, answer.json()["format"]) == (201, told), answer.text
        assert (await house.ann.get(f"/v1/datasets/{name}")).json()["report"]["duplicates"] == 0
        assert (await house.ann.post("/v1/datasets", **sent)).status_code == 200
    assert (await house.ann.get("/v1/datasets/csv/preview")).json()["rows"] == [{"text": "hello"}]
    assert (await house.ann.get("/v1/datasets/images/preview")).status_code == 422
    form = await house.ann.post("/v1/datasets", data={"name": "form"}, files={"file": ("a.csv", b"text\nhello\n")})
    assert form.json()["format"] == "text"


@pytest.mark.asyncio(loop_scope="session")
async def test_the_classes_of_a_dataset_travel_with_the_job(house: House) -> None:
    await house.dataset(house.ann, rows=[{"text": "a", "label": "spam"}, {"text": "b", "label": "ham"}] * 5)
    file = {"name": "filter", "model": {"base": "tiny-llama", "method": "full"}, "dataset": {"uri": "support"}}
    answer = await house.ann.post("/v1/jobs", json=file)
    assert answer.status_code == 202, answer.text
    (submitted,) = await house.told(events.JobSubmitted)
    assert (submitted.spec.dataset.format, list(submitted.spec.dataset.labels)) == ("classification", ["ham", "spam"])
