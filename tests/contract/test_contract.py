"""The contract keeps its word: golden examples cross it unchanged, the broken is named, v1 only grows."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st

from sskai import contract
from sskai.contract import UndecodableError, UnknownTypeError
from sskai.events import v1 as events
from sskai.testing import envelope

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "proto/examples/v1").glob("*.json"))
HEADERS = {
    "ce_specversion": "1.0",
    "ce_id": "1",
    "ce_source": "by-hand",
    "ce_type": "sskai.events.v1.JobCancelRequested",
}


def headers(**changes: str | None) -> list[tuple[str, bytes]]:
    return [(name, text.encode()) for name, text in (HEADERS | changes).items() if text is not None]


def test_every_event_has_a_golden_example() -> None:
    assert {path.stem for path in EXAMPLES} == {name.rsplit(".", 1)[1] for name in contract.MESSAGES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_a_golden_example_crosses_the_bus_and_comes_back_equal(path: Path) -> None:
    example = json.loads(path.read_text())
    event = contract.from_cloudevent(example)
    record = contract.encode(event)
    assert contract.decode(record.value, record.headers) == event
    assert contract.to_cloudevent(event) == example
    assert record.key.decode() == event.key


def test_type_topic_and_key_are_read_from_the_proto() -> None:
    job = events.JobSubmitted(job_id="job_1", tenant_id="t")
    assert contract.topic_of(job) == "sskai.jobs.v1"
    assert contract.key_of(job) == "job_1"
    assert contract.key_of(events.PriceObserved(offer="aws/r/z/t/spot")) == "aws/r/z/t/spot"
    with pytest.raises(ValueError, match="no topic"):
        contract.topic_of(events.JobSpec())


@pytest.mark.parametrize("name", sorted(contract.MESSAGES))
def test_field_1_is_a_string_and_field_2_says_whose_fact_it_is(name: str) -> None:
    fields = contract.MESSAGES[name].DESCRIPTOR.fields_by_number
    assert fields[1].type == fields[1].TYPE_STRING
    if ".Price" not in name and "machines" not in contract.topic_of(contract.MESSAGES[name]):
        assert fields[2].name == "tenant_id"


def test_json_by_hand_is_an_event_too() -> None:
    got = contract.decode(b'{"job_id": "job_1", "some_new_field": 1}', headers(**{"content-type": "application/json"}))
    assert got.message == events.JobCancelRequested(job_id="job_1")


@pytest.mark.parametrize(
    ("value", "changes", "message"),
    [
        (None, {}, "empty"),
        (b"\xff\xff\xff", {}, "not a sskai.events.v1.JobCancelRequested"),
        (b"", {}, "field 1"),
        (b"{", {"content-type": "application/json"}, "not a"),
        (b'{"job_id": 7}', {"content-type": "application/json"}, "not a"),
        (b"[]", {"content-type": "application/cloudevents+json"}, "an object"),
        (b"x", {"content-type": "application/cloudevents+json"}, "not a CloudEvent"),
        (b"x", {"content-type": "text/xml"}, "content-type"),
        (b"", {"ce_type": None}, "no ce_type"),
        (b"\n\x01j", {"ce_specversion": "0.3"}, "specversion"),
        (b"\n\x01j", {"ce_id": ""}, "id and source"),
        (b"\n\x01j", {"ce_time": "yesterday"}, "RFC 3339"),
        (b"x" * (contract.MAX_EVENT_BYTES + 1), {}, "bytes, over"),
    ],
)
def test_what_is_no_event_is_set_aside_with_its_reason(
    value: bytes | None, changes: dict[str, str | None], message: str
) -> None:
    with pytest.raises(UndecodableError, match=message):
        contract.decode(value, headers(**changes))


def test_a_type_of_tomorrow_is_unknown_not_broken() -> None:
    with pytest.raises(UnknownTypeError):
        contract.decode(b"", headers(ce_type="sskai.events.v1.JobTeleported"))


@given(st.binary(max_size=300), st.dictionaries(st.sampled_from([*HEADERS, "content-type"]), st.text(max_size=40)))
def test_any_bytes_are_decoded_or_refused(value: bytes, changes: dict[str, str]) -> None:
    with contextlib.suppress(UndecodableError, UnknownTypeError):
        contract.decode(value, headers(**changes))


@given(st.text(min_size=1, max_size=50), st.text(max_size=50), st.floats(allow_nan=False, allow_infinity=False))
def test_encode_and_decode_are_inverse(key: str, reason: str, spent: float) -> None:
    try:
        message = events.JobRequeued(job_id=key, reason=reason, spent_usd=spent, requeued_at=datetime.now(UTC))
    except ValueError:  # surrogates are no UTF-8
        return
    event = envelope(message)
    if "\0" in key:
        with pytest.raises(ValueError, match="nothing can store"):
            contract.encode(event)
        return
    record = contract.encode(event)
    assert contract.decode(record.value, record.headers) == event


def test_an_event_too_large_for_a_broker_is_refused_before_it_is_stored() -> None:
    with pytest.raises(ValueError, match="limit"):
        contract.encode(envelope(events.JobHeld(job_id="j", detail="x" * contract.MAX_EVENT_BYTES)))


def test_ids_sort_by_time() -> None:
    ids = [contract.new_id("job") for _ in range(3)]
    assert all(one.startswith("job_") and len(one) == 30 for one in ids)
    assert len(set(ids)) == 3


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    protos = sorted(str(path) for path in (ROOT / "proto/sskai/events/v1").glob("*.proto"))
    out = [f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *out, *protos], check=True)
    for made in sorted((tmp_path / "sskai/events/v1").iterdir()):
        assert made.read_text() == (ROOT / "sskai/events/v1" / made.name).read_text(), f"run `make proto`: {made.name}"


def test_v1_only_grows(tmp_path: Path) -> None:
    """Every message, field, number and type of the committed baseline still stands; `buf breaking` says the same."""
    now = tmp_path / "now.binpb"
    protos = sorted(str(path) for path in (ROOT / "proto/sskai/events/v1").glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"--descriptor_set_out={now}", *protos]
    subprocess.run(command, check=True)
    before = _fields(FileDescriptorSet.FromString((ROOT / "proto/baseline-v1.binpb").read_bytes()))
    after = _fields(FileDescriptorSet.FromString(now.read_bytes()))
    assert before
    assert {name: field for name, field in before.items() if after.get(name) != field} == {}


def _fields(files: FileDescriptorSet) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for file in (one for one in files.file if one.name.startswith("sskai/")):
        for enum in file.enum_type:
            found |= {f"{enum.name}.{value.name}": (value.number,) for value in enum.value}
        for message in file.message_type:
            for field in message.field:
                name = f"{file.name}:{message.name}.{field.name}"
                found[name] = (field.number, field.type, field.label, field.type_name)
    return found


def test_examples_are_what_the_catalogue_says() -> None:
    catalogue = (ROOT / "proto/README.md").read_text()
    for name, kind in contract.MESSAGES.items():
        assert f"`{name.rsplit('.', 1)[1]}`" in catalogue, f"{name} is missing in proto/README.md"
        assert contract.topic_of(kind) in catalogue
