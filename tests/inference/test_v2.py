"""The Open Inference Protocol: what requests mean, and that whatever is wrong with one is said by the field's name."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from services.inference import v2, v2_data
from services.inference.openai import Refusal
from services.inference.signatures import NUMPY, Signature, Tensor
from services.inference.v2 import Asked, Classes, Model

PICTURE = (3, 32, 32)
FLOWERS = Signature(
    (Tensor("rows", "FP32", (-1, 3)), Tensor("kinds", "INT64", (-1, -1))), (Tensor("output", "FP32", (-1, 2)),)
)


def tensor(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2, 2], "datatype": "FP32", "data": [1, 2.5, 3, 4], **changes}


def asked(*inputs: dict[str, Any], raw: bytes = b"", **more: Any) -> Asked:
    head = json.dumps({"inputs": list(inputs), **more}).encode()
    return v2.parse(head + raw, str(len(head)) if raw else None)


def array(**changes: Any) -> np.ndarray[Any, Any]:
    found = asked(tensor(**changes))
    return v2_data.numbers(0, found.request.inputs[0], found.raw[0])


def refused(work: Any) -> dict[str, Any]:
    with pytest.raises(Refusal) as caught:
        work()
    assert caught.value.status == 400
    error: dict[str, Any] = caught.value.body["error"]
    return error


NUMBERS: list[tuple[dict[str, Any], list[Any]]] = [
    ({}, [[1, 2.5], [3, 4]]),
    ({"data": [[1, 2.5], [3, 4]]}, [[1, 2.5], [3, 4]]),
    ({"shape": [1, 2, 2], "data": [[[1, 2.5], [3, 4]]]}, [[[1, 2.5], [3, 4]]]),
    ({"shape": [4]}, [1, 2.5, 3, 4]),
    ({"datatype": "INT8", "data": [-128, 127, 0, 1]}, [[-128, 127], [0, 1]]),
    ({"datatype": "UINT64", "data": [2**64 - 1, 0, 0, 0]}, [[2**64 - 1, 0], [0, 0]]),
    ({"datatype": "BOOL", "data": [True, False, True, True]}, [[True, False], [True, True]]),
    ({"datatype": "BF16"}, [[1, 2.5], [3, 4]]),
]


@pytest.mark.parametrize(("changes", "expected"), NUMBERS)
def test_numbers(changes: dict[str, Any], expected: list[Any]) -> None:
    found = array(**changes)
    assert found.tolist() == expected
    assert found.dtype == NUMPY[changes.get("datatype", "FP32")]


WRONG_NUMBERS: list[tuple[dict[str, Any], str, str]] = [
    ({"data": [1, 2, 3]}, "inputs.0.shape", "asks for 4 values"),
    ({"data": []}, "inputs.0.shape", "asks for 4 values"),
    ({"data": [[1, 2], [3]]}, "inputs.0.shape", "asks for 4"),
    ({"data": [[1, 2, 3], [4]]}, "inputs.0.shape", "asks for 4"),
    ({"data": [[1, 2, 3, 4]]}, "inputs.0.shape", "asks for 4"),
    ({"data": [[1, 2], 3, 4]}, "inputs.0.shape", "asks for 4"),
    ({"data": [[[1], [2]], [[3], [4]]]}, "inputs.0.data", "is no FP32"),
    ({"data": [1, 2, 3, "4"]}, "inputs.0.data", "'4' is no FP32"),
    ({"data": [1, 2, 3, None]}, "inputs.0.data", "'None' is no FP32"),
    ({"data": [1, 2, 3, True]}, "inputs.0.data", "'True' is no FP32"),
    ({"data": [1, 2, 3, float("nan")]}, "inputs.0.data", "'nan' is no FP32"),
    ({"data": [1, 2, 3, 1e39]}, "inputs.0.data", "'1e+39' is no FP32"),
    ({"data": [1, 2, 3, 10**400]}, "inputs.0.data", "is no FP32"),
    ({"datatype": "FP16", "data": [1, 2, 3, 70000]}, "inputs.0.data", "'70000' is no FP16"),
    ({"datatype": "INT8", "data": [1, 2, 3, 300]}, "inputs.0.data", "'300' is no INT8"),
    ({"datatype": "UINT8", "data": [1, 2, 3, -1]}, "inputs.0.data", "'-1' is no UINT8"),
    ({"datatype": "INT64", "data": [1, 2, 3, 4.0]}, "inputs.0.data", "'4.0' is no INT64"),
    ({"datatype": "INT64", "data": [1, 2, 3, 2**63]}, "inputs.0.data", "is no INT64"),
    ({"datatype": "BOOL", "data": [1, 0, 1, 1]}, "inputs.0.data", "'1' is no BOOL"),
    ({"datatype": "FP8"}, "inputs.0.datatype", "'FP8' is none of BYTES, BOOL"),
    ({"data": None}, "inputs.0.data", "is missing"),
    ({"shape": []}, "inputs.0.shape", "at least 1"),
    ({"shape": [0, 4]}, "inputs.0.shape.0", "greater than or equal to 1"),
    ({"shape": [2.0, 2]}, "inputs.0.shape.0", "integer"),
    ({"shape": [1] * 9}, "inputs.0.shape", "at most 8"),
    ({"name": ""}, "inputs.0.name", "at least 1"),
    ({"extra": 1}, "inputs.0.extra", "Unrecognized"),
]


@pytest.mark.parametrize(("changes", "param", "words"), WRONG_NUMBERS)
def test_numbers_that_are_none(changes: dict[str, Any], param: str, words: str) -> None:
    error = refused(lambda: array(**changes))
    assert error["param"] == param
    assert words in error["message"]


SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, max_side=4)
ARRAYS = st.sampled_from(sorted(set(NUMPY) - {"BF16"})).flatmap(
    lambda name: st.tuples(
        st.just(name),
        arrays.arrays(NUMPY[name], SHAPES, elements={"allow_nan": False, "allow_infinity": False})
        if NUMPY[name].kind == "f"
        else arrays.arrays(NUMPY[name], SHAPES),
    )
)


@given(ARRAYS, st.sampled_from(["flat", "nested", "binary"]))
def test_every_array_arrives_as_it_was_sent(sent: tuple[str, np.ndarray[Any, Any]], way: str) -> None:
    datatype, values = sent
    given: dict[str, Any] = {"name": "x", "shape": list(values.shape), "datatype": datatype}
    raw = b""
    if way == "binary":
        raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
        given["parameters"] = {"binary_data_size": len(raw)}
    else:
        given["data"] = (values.reshape(-1) if way == "flat" else values).tolist()
    found = asked(given, raw=raw)
    arrived = v2_data.numbers(0, found.request.inputs[0], found.raw[0])
    assert arrived.dtype == values.dtype
    assert np.array_equal(arrived, values)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["rows", "kinds"]) | JSON,
        "shape": st.lists(st.integers(0, 3), max_size=3) | JSON,
        "datatype": st.sampled_from(v2.DATATYPES) | JSON,
        "data": st.lists(JSON, max_size=6) | JSON,
        "parameters": st.fixed_dictionaries({"binary_data_size": JSON}) | JSON,
    },
)


@given(st.lists(FIELDS, max_size=3), st.binary(max_size=40), st.none() | st.text(max_size=4))
def test_nothing_but_a_refusal_comes_of_what_is_wrong(inputs: Any, raw: bytes, length: str | None) -> None:
    head = json.dumps({"inputs": inputs}).encode()
    for header in (length, str(len(head))):
        for read in (
            v2_data.texts,
            lambda one: v2_data.pictures(one, PICTURE),
            lambda one: v2_data.tensors(one, FLOWERS),
        ):
            try:
                read(v2.parse(head + raw if header else head, header))
            except Refusal as refusal:
                assert refusal.status == 400  # noqa: PT017 (it need not be raised)


BINARY: list[tuple[Any, bytes, str | None, str]] = [
    (8, b"\0" * 8, "x", "no length within this body"),
    (8, b"\0" * 8, "99999", "no length within this body"),
    (9, b"\0" * 8, None, "9 bytes are not in the body, 8 are"),
    (-1, b"\0" * 8, None, "-1 bytes are not in the body"),
    ("8", b"\0" * 8, None, "'8' bytes are not"),
    (8, b"\0" * 9, None, "1 bytes of the body belong to no input"),
    (8, b"\0" * 8, None, r"8 bytes are not \[2, 2\] of FP32"),
    (16, struct.pack("<4f", 1, 2, 3, np.inf), None, "numbers must be finite"),
]


@pytest.mark.parametrize(("size", "raw", "header", "words"), BINARY)
def test_binary_data_that_are_wrong(size: Any, raw: bytes, header: str | None, words: str) -> None:
    given = {**tensor(parameters={"binary_data_size": size}), "data": None}
    head = json.dumps({"inputs": [given]}).encode()

    def work() -> None:
        found = v2.parse(head + raw, header or str(len(head)))
        v2_data.numbers(0, found.request.inputs[0], found.raw[0])

    with pytest.raises(Refusal, match=words):
        work()


def test_several_inputs_share_the_bytes_behind_the_json() -> None:
    first = tensor(name="rows", shape=[1, 3], data=None, parameters={"binary_data_size": 12})
    second = tensor(name="kinds", shape=[1, 2], datatype="INT64", data=None, parameters={"binary_data_size": 16})
    raw = struct.pack("<3f", 1, 2, 3) + struct.pack("<2q", 7, -8)
    found = v2_data.tensors(asked(first, second, raw=raw), FLOWERS)
    assert {name: values.tolist() for name, values in found.items()} == {"rows": [[1, 2, 3]], "kinds": [[7, -8]]}


ROWS = tensor(name="rows", shape=[2, 3], data=[0] * 6)
KINDS = tensor(name="kinds", shape=[2, 1], datatype="INT64", data=[1, 2])
WRONG_TENSORS: list[tuple[list[dict[str, Any]], str, str]] = [
    ([ROWS], "inputs", "kinds is missing"),
    ([ROWS, KINDS, {**KINDS, "name": "other"}], "inputs.2.name", "'other' is none of rows, kinds"),
    ([ROWS, ROWS], "inputs.1.name", "'rows' is there twice"),
    ([{**ROWS, "datatype": "FP64"}, KINDS], "inputs.0.datatype", "takes FP32, not FP64"),
    ([{**ROWS, "shape": [3, 2]}, KINDS], "inputs.0.shape", "takes [-1, 3] (-1: any size), not [3, 2]"),
    ([ROWS, {**KINDS, "shape": [1, 2]}], "inputs.1.shape", "1 rows, but inputs.0 has 2"),
    ([{**ROWS, "shape": [1025, 3], "data": [0] * 3075}, KINDS], "inputs.0.shape", "1025 rows; a request has up to"),
]


@pytest.mark.parametrize(("inputs", "param", "words"), WRONG_TENSORS)
def test_tensors_that_the_model_does_not_take(inputs: list[dict[str, Any]], param: str, words: str) -> None:
    error = refused(lambda: v2_data.tensors(asked(*inputs), FLOWERS))
    assert error["param"] == param
    assert words in error["message"]


def texts(**changes: Any) -> dict[str, Any]:
    return {"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a", "é"], **changes}


def packed(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(each)) + each for each in elements)


def test_texts_in_json_and_in_bytes() -> None:
    assert v2_data.texts(asked(texts())) == ["a", "é"]
    assert v2_data.texts(asked(texts(shape=[2, 1], data=[["a"], ["é"]]))) == ["a", "é"]
    raw = packed(b"a", "é".encode())
    binary = texts(data=None, parameters={"binary_data_size": len(raw)})
    assert v2_data.texts(asked(binary, raw=raw)) == ["a", "é"]


WRONG_TEXTS: list[tuple[list[dict[str, Any]], bytes, str, str]] = [
    ([texts(data=["a"])], b"", "inputs.0.shape", "asks for 2 values"),
    ([texts(data=["a", 3])], b"", "inputs.0.data.1", "a text is wanted"),
    ([texts(), texts()], b"", "inputs", "one BYTES tensor of texts, not 2"),
    ([tensor()], b"", "inputs.0.datatype", "takes BYTES, not FP32"),
    ([texts(shape=[257], data=["a"] * 257)], b"", "inputs.0.shape", "257 texts; a request has up to 256"),
    ([texts(shape=[2, 1, 1])], b"", "inputs.0.shape", "3 dimensions"),
    ([texts(shape=[1], data=["a" * 1_000_001])], b"", "inputs.0.data.0", "1000001 characters"),
    ([texts(data=None)], packed(b"a", b"\xff"), "inputs.0.data.1", "not UTF-8 at byte 1"),
    ([texts(data=None)], packed(b"a"), "inputs.0.parameters.binary_data_size", "are not 2 elements"),
    ([texts(data=None)], packed(b"a", b"b", b"c"), "inputs.0.parameters.binary_data_size", "are not 2 elements"),
    ([texts(data=None)], packed(b"a", b"b")[:-1], "inputs.0.parameters.binary_data_size", "are not 2 elements"),
]


@pytest.mark.parametrize(("inputs", "raw", "param", "words"), WRONG_TEXTS)
def test_texts_that_are_none(inputs: list[dict[str, Any]], raw: bytes, param: str, words: str) -> None:
    if raw:
        inputs[0]["parameters"] = {"binary_data_size": len(raw)}
    error = refused(lambda: v2_data.texts(asked(*inputs, raw=raw)))
    assert error["param"] == param
    assert words in error["message"]


def test_pictures_as_files_and_as_numbers() -> None:
    files = texts(data=[b64encode(each).decode() for each in (b"one", b"two")])
    assert v2_data.pictures(asked(files), PICTURE) == [b"one", b"two"]
    raw = packed(b"\x89PNG", b"two")
    binary = texts(data=None, parameters={"binary_data_size": len(raw)})
    assert v2_data.pictures(asked(binary, raw=raw), PICTURE) == [b"\x89PNG", b"two"]
    pixels = tensor(shape=[1, 3, 2, 1], datatype="UINT8", data=[0, 1, 2, 3, 4, 255])
    found = v2_data.pictures(asked(pixels), PICTURE)
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == ((1, 3, 2, 1), np.uint8)


WRONG_PICTURES: list[tuple[dict[str, Any], str, str]] = [
    (texts(data=["AAAA", "not base64"]), "inputs.0.data.1", "in base64 is wanted"),
    (texts(data=["AAAA", "é"]), "inputs.0.data.1", "in base64 is wanted"),
    (texts(shape=[1], data=["A" * 9_000_000]), "inputs.0.data.0", "has up to 6291456 bytes"),
    (texts(shape=[65], data=["AAAA"] * 65), "inputs.0.shape", "65 pictures; a request has up to 64"),
    (tensor(datatype="FP64"), "inputs.0.datatype", "takes BYTES or UINT8 or FP32, not FP64"),
    (tensor(), "inputs.0.shape", "takes [-1, 3, 32, 32]"),
    (tensor(shape=[4, 1, 1], datatype="UINT8"), "inputs.0.shape", "takes [-1, -1, -1, -1]"),
    (tensor(shape=[65, 1, 1, 1], datatype="UINT8", data=[0] * 65), "inputs.0.shape", "65 pictures"),
]


@pytest.mark.parametrize(("given", "param", "words"), WRONG_PICTURES)
def test_pictures_that_are_none(given: dict[str, Any], param: str, words: str) -> None:
    error = refused(lambda: v2_data.pictures(asked(given), PICTURE))
    assert error["param"] == param
    assert words in error["message"]


def test_an_answer_of_classes() -> None:
    outputs = v2.classified(Classes(["a", "b"]), [[0.25, 0.75], [0.5, 0.5]])
    found = v2.answer(asked(texts(), id="mine").request, Model("spam", 3), outputs, "infer_1")
    assert (found["model_name"], found["model_version"], found["id"]) == ("spam", "3", "mine")
    assert {one["name"]: (one["shape"], one["data"]) for one in found["outputs"]} == {
        "label": ([2], ["b", "a"]),
        "probability": ([2], [0.75, 0.5]),
        "probabilities": ([2, 2], [0.25, 0.75, 0.5, 0.5]),
    }


def test_outputs_that_are_asked_for_and_that_there_are_not() -> None:
    some = asked(texts(), outputs=[{"name": "label", "parameters": {"binary_data": False}}]).request
    outputs = v2.classified(Classes(["a", "b"]), [[0.25, 0.75], [0.5, 0.5]])
    assert [one["name"] for one in v2.answer(some, Model("spam", 1), outputs, "x")["outputs"]] == ["label"]
    v2.check_wanted(some, v2.CLASS_NAMES)
    error = refused(lambda: v2.check_wanted(some, ["output"]))
    assert (error["param"], error["message"]) == ("outputs.0.name", "outputs.0.name: 'label' is none of output")


def test_what_a_model_gave() -> None:
    (one,) = v2.told({"output": np.array([[1.5, 2], [3, 4]], np.float32)})
    assert one.document() == {"name": "output", "datatype": "FP32", "shape": [2, 2], "data": [1.5, 2, 3, 4]}
    assert v2.told({"output": np.array([True])})[0].datatype == "BOOL"
    with pytest.raises(Refusal, match="not finite") as caught:
        v2.told({"output": np.array([np.nan], np.float32)})
    assert caught.value.status == 500


def test_metadata_name_inputs_and_outputs() -> None:
    text = v2.described(Model("spam", 1), Classes(["a", "b"]))
    assert text["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert text["parameters"] == {"labels": ["a", "b"]}
    assert [one["shape"] for one in text["outputs"]] == [[-1], [-1], [-1, 2]]
    image = v2.described(Model("digits", 1), Classes(["a", "b"], PICTURE))
    assert image["inputs"][0]["name"] == "image"
    assert [one["shape"] for one in image["parameters"]["or_inputs"]] == [[-1, -1, -1, -1], [-1, 3, 32, 32]]
    own = v2.described(Model("flowers", 2), FLOWERS)
    assert (own["platform"], own["versions"]) == ("pytorch", ["2"])
    assert [one["name"] for one in own["inputs"]] == ["rows", "kinds"]
