"""Zips that mean harm, and zips that do not."""

from __future__ import annotations

import collections
import io
import pickle
import stat
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sskai import archives
from sskai.archives import ArchiveError, ArchiveLimits

SMALL = ArchiveLimits(entries=5, code_bytes=10_000, weight_bytes=20_000, ratio=100)


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", options.get("compression", zipfile.ZIP_DEFLATED)) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return file


def entry(name: str, mode: int = 0, **fields: Any) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def patched(file: io.BytesIO, old: bytes, new: bytes) -> io.BytesIO:
    """As no library would write it."""
    assert old in file.getvalue()
    return io.BytesIO(file.getvalue().replace(old, new))


def overlapping() -> io.BytesIO:
    """Many entries of the list that share the same compressed bytes."""
    file = zipped(("one", bytes(8_000)), compression=zipfile.ZIP_STORED)
    with zipfile.ZipFile(file) as archive:
        start = archive.start_dir
    data, list_entry = file.getvalue()[:start], file.getvalue()[start:-22]
    listed = list_entry * 5
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 5, 5, len(listed), start, 0)
    return io.BytesIO(data + listed + end)


def saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def savez() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.ones(3))
    return file.getvalue()


TEXT = b"x = 1\n"
ORDERED = collections.OrderedDict(a=1)  # unpickled by a call
EVIL = {
    "empty": (io.BytesIO(), "archive", "not a zip"),
    "no zip": (io.BytesIO(b"Hello" * 100), "archive", "not a zip"),
    "cut": (io.BytesIO(zipped(("a.py", TEXT)).getvalue()[:-9]), "archive", "not a zip"),
    "checksum": (
        patched(
            zipped(
                (entry("a.txt"), b"some text"),
            ),
            b"some text",
            b"SOME text",
        ),
        "a.txt",
        "cannot be read",
    ),
    "many entries": (zipped(*((str(n), b"x") for n in range(6))), "archive", "more than 5 entries"),
    "large": (
        zipped(("data.bin", bytes(range(256)) * 40)),
        "archive",
        "10240 bytes of code and data; the limit is 10000",
    ),
    "large weights": (
        zipped(("w.safetensors", bytes(range(256)) * 80)),
        "archive",
        "20480 bytes of weights; the limit is 20000",
    ),
    "bomb": (zipped(("zeros", bytes(9_900))), "zeros", "zip bomb"),
    "twins": (overlapping(), "one", "twice"),
    "absolute": (zipped(("/etc/passwd", TEXT)), "/etc/passwd", "not relative"),
    "drive": (zipped(("C:evil.py", TEXT)), "C:evil.py", "not relative"),
    "backslash": (patched(zipped(("..XXevil.py", TEXT)), b"..XX", b"..\\\\"), "..\\\\evil.py", "not relative"),
    "slip": (zipped(("../evil.py", TEXT)), "../evil.py", "leads out"),
    "slip inside": (zipped(("a/../../evil.py", TEXT)), "a/../../evil.py", "leads out"),
    "double slash": (zipped(("a//b.py", TEXT)), "a//b.py", "leads out"),
    "link": (zipped((entry("link", stat.S_IFLNK | 0o777), b"/etc/passwd")), "link", "a link or a device"),
    "fifo": (zipped((entry("pipe", stat.S_IFIFO | 0o644), b"")), "pipe", "a link or a device"),
    "device": (zipped((entry("disk", stat.S_IFBLK | 0o644), b"")), "disk", "a link or a device"),
    "NUL": (patched(zipped(("a.pyXevil", TEXT)), b"a.pyXevil", b"a.py\0evil"), "'a.py\\x00evil'", "printable"),
    "newline": (zipped(("a\nb.py", TEXT)), "'a\\nb.py'", "printable"),
    "long name": (zipped(("a" * 201, TEXT)), "'aaa", "printable"),
    "deep": (zipped(("a/" * 17 + "b.py", TEXT)), "a/a/", "16 folders"),
    "twice": (zipped(("a.py", TEXT), ("A.py", TEXT)), "A.py", "twice"),
    "file and folder": (zipped(("a", TEXT), ("a/b.py", TEXT)), "a", "as a file and a folder"),
    "bzip2": (zipped(("a.py", TEXT), compression=zipfile.ZIP_BZIP2), "a.py", "use deflate"),
    "nested": (zipped(("more.dat", zipped(("a.py", TEXT)).getvalue())), "more.dat", "a zip inside the zip"),
    "empty nested": (zipped(("more.dat", zipped().getvalue())), "more.dat", "a zip inside the zip"),
    "np.savez": (zipped(("arrays.npz", savez())), "arrays.npz", "a zip inside the zip"),
    **{
        f"pickle of protocol {protocol}": (
            zipped(("notes.txt", pickle.dumps(ORDERED, protocol))),
            "notes.txt",
            "pickle",
        )
        for protocol in range(6)
    },
    "array of objects": (zipped(("array.npy", saved(np.array([ORDERED])))), "array.npy", "pickle"),
}


@pytest.mark.parametrize(("file", "name", "reason"), EVIL.values(), ids=EVIL.keys())
def test_what_means_harm_is_refused_by_name(file: io.BytesIO, name: str, reason: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ArchiveError, match=reason) as refused:
        archives.check(file, SMALL)
    assert str(refused.value).startswith(name)
    if reason not in ("pickle", "a zip inside the zip"):
        # What is unpacked needs no check of its own before.
        with pytest.raises(ArchiveError, match=reason):
            archives.unpack(file, folder, SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_an_encrypted_entry_is_refused() -> None:
    file = zipped(("a.py", TEXT))
    raw = bytearray(file.getvalue())
    at = raw.rindex(b"PK\x01\x02")
    raw[at + 8] |= 1
    with pytest.raises(ArchiveError, match=r"a\.py: is encrypted"):
        archives.check(io.BytesIO(bytes(raw)))


@pytest.mark.parametrize("count", [2**16 - 2, 2**32])
def test_a_long_list_of_entries_is_not_even_read(count: int) -> None:
    zip64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, 46 * count, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    with pytest.raises(ArchiveError, match="more than 1000 entries"):
        archives.check(io.BytesIO(bytes(100) + zip64 + locator + end))


def test_a_declared_size_that_lies_brings_no_more_than_it_says() -> None:
    file = zipped(("zeros", bytes(5_000_000)))
    raw = file.getvalue().replace(struct.pack("<L", 5_000_000), struct.pack("<L", 50))
    with pytest.raises(ArchiveError, match="zeros: cannot be read from the archive"):
        archives.check(io.BytesIO(raw))


HARMLESS = {
    "model.py": b"import torch\nimport numpy\n",
    "data/values.csv": b"0.5,1.5\n1.0,2.0\n",
    "data/array.npy": saved(np.arange(100)),
    "README.md": b"c is the letter that\nthis text begins with, and\nit goes on.",
    "empty": b"",
    "plain.pkl": pickle.dumps({"a": [1, 2]}, 0),  # reads as a pickle, but can only make plain values
    "pickled.py": b"cos\nsystem\n(S'true'\ntR.",  # is no Python, and will not be unpickled
}


def test_what_is_ordinary_is_unpacked_as_it_was(tmp_path: Path) -> None:
    file = zipped(*HARMLESS.items())
    assert archives.check(file) == {name: len(content) for name, content in HARMLESS.items()}
    archives.unpack(file, tmp_path)
    for name, content in HARMLESS.items():
        assert (tmp_path / name).read_bytes() == content
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o755
    assert archives.read(file, "model.py", 100) == HARMLESS["model.py"]
    with pytest.raises(ArchiveError, match=r"model\.py: more than 10 bytes"):
        archives.read(file, "model.py", 10)


def test_folders_of_their_own_are_no_files(tmp_path: Path) -> None:
    file = zipped((entry("folder/", stat.S_IFDIR | 0o777), b""), ("folder/a.py", TEXT))
    assert archives.check(file) == {"folder/a.py": 6}
    archives.unpack(file, tmp_path)
    assert (tmp_path / "folder/a.py").read_bytes() == TEXT


def test_the_limit_of_the_contract_holds_and_a_bomb_is_refused_at_once() -> None:
    bomb = zipped(("zeros.csv", bytes(64 * 2**20)))
    began = time.monotonic()
    with pytest.raises(ArchiveError, match="zip bomb"):
        archives.check(bomb)
    assert time.monotonic() - began < 1
    with pytest.raises(ArchiveError, match="more than 1000 entries"):
        archives.check(zipped(*((f"{n}.txt", b"x") for n in range(1001))))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_archive_is_an_archive_error_or_sound(data: st.DataObject) -> None:
    raw = bytearray(zipped(("model.py", TEXT * 20), ("data.csv", b"1,2\n" * 30)).getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        sizes = archives.check(io.BytesIO(bytes(raw)))
    except ArchiveError:
        return
    assert all(size <= 1_000 for size in sizes.values())
