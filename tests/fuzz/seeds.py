"""The corpus's beginnings: `python -m tests.fuzz.seeds` writes them again. Valid ones, and tricks that are known."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from google.protobuf import json_format
from PIL import Image

from sskai import contract
from tests.fuzz import corpus
from tests.fuzz.targets import NOW
from tests.monitor import messages

EXAMPLES = Path(__file__).parents[2] / "proto/examples/v1"
TOLD = ("JobSubmitted", "PlanProposed", "AttemptProgressed", "SpendRecorded", "DatasetRejected", "InferenceSampled")
MESSAGES = {"messages": [{"role": "user", "content": "é?"}, {"role": "assistant", "content": "!"}]}
ROWS: dict[str, dict[str, Any]] = {
    "messages": MESSAGES,
    "text": {"text": "once"},
    "completion": {"prompt": "1", "completion": "2"},
    "preference": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "openai": {
        "input": {"messages": [{"role": "user", "content": "a"}]},
        "preferred_output": [{"role": "assistant", "content": "b"}],
        "non_preferred_output": [{"role": "assistant", "content": "c"}],
    },
    "alpaca": {"instruction": "a", "input": "", "output": "b"},
    "sharegpt": {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
}
HOSTILE_ROWS = {
    "half-surrogate-in-key": b'{"\\ud800": 1}',
    "nul-in-key": b'{"a\\u0000b": 1}',
    "long-key": b'{"' + b"k" * 999_000 + b'": 1}',
    "half-surrogate-beside": b'{"prompt":[{"role":"user","content":"a","x":"\\ud800"}],'
    b'"chosen":[{"role":"assistant","content":"b"}],"rejected":[{"role":"assistant","content":"c"}]}',
    "list-as-role": b'{"conversations":[{"from":[],"value":"a"}]}',
    "object-as-role": b'{"messages":[{"role":{},"content":"a"}]}',
    "not-a-number": b'{"text": NaN}',
    "deep": b'{"text":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
    "many-digits": b'{"text":' + b"9" * 1_000_000 + b"}",
    "twice-the-same-key": b'{"text":"a","text":1}',
    "not-utf-8": b'{"text":"\xff\xfe"}',
    "nul": b'{"text":"a\0"}',
    "byte-order-mark": b'\xef\xbb\xbf{"text":"a"}',
}
JOB = {
    "kind": "finetune", "name": "support-bot", "model": {"base": "tiny", "method": "lora", "rank": 8},
    "dataset": {"uri": "dataset://support/3", "format": "messages", "eval_fraction": 0.05},
    "hyperparameters": {"n_epochs": 3, "batch_size": "auto", "learning_rate": 0.001, "seed": 7},
    "resources": {"accelerators": "L4:1", "cpus": "4+", "memory": "16+", "nodes": "1..4"},
    "spot_policy": "auto", "max_price": 1.2, "budget": {"total_usd": 15}, "deadline": "2026-12-02T09:00:00Z",
    "retry": {"on_events": ["no-capacity", "error"], "duration": "4h", "max_restarts_on_errors": 3},
    "checkpoint": {"interval": "auto", "keep": 3}, "env": {"A": "b"}, "objective": "cheapest-within-deadline",
}  # fmt: skip
HOSTILE_JOBS = {
    "deadline-before-the-first-year": {**JOB, "deadline": "0001-01-01T00:00:00+23:59"},
    "deadline-after-the-last-year": {**JOB, "deadline": "9999-12-31T23:59:59-23:59"},
    "half-surrogate-as-field": {**JOB, "\ud800": 1},
    "half-surrogate-as-value": {**JOB, "kind": "\ud800", "spot_policy": "\ud800"},
    "nul": {**JOB, "env": {"A": "\0"}},
    "lists": {**JOB, "model": [], "kind": [], "deadline": {}},
    "infinite": {**JOB, "budget": {"total_usd": float("inf")}, "max_price": float("nan")},
    "long-duration": {**JOB, "deadline": "999999999d", "retry": {"duration": "999999999.999999d"}},
}
ENDPOINT = {
    "kind": "endpoint", "name": "bot", "model": {"base": "tiny"},
    "traffic": {"requests_per_day": 1000, "input_tokens_per_request": 300, "output_tokens_per_request": 200},
    "latency": {"p95_seconds": 3.5}, "budget": {"usd_per_month": 100}, "resources": {"accelerators": "L4:1"},
}  # fmt: skip
REQUESTS: dict[str, Any] = {
    "POST /v1/jobs": JOB,
    "POST /v1/plans": ENDPOINT,
    "PUT /v1/budgets/default": {"usd": 10.5, "window": "month"},
    "POST /v1/webhooks": {"url": "https://example.com/hook", "types": ["JobFailed"]},
    "POST /v1/endpoints": {"name": "bot", "model": "tiny"},
    "POST /v1/keys": {"name": "ci", "scopes": ["read"]},
    "POST /v1/uploads": {"filename": "a.jsonl", "purpose": "fine-tune", "bytes": 9, "mime_type": "application/jsonl"},
    "POST /v1/fine_tuning/jobs": {"model": "tiny", "training_file": "file-1"},
    "POST /v1/chat/completions": {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]},
    "POST /v1/feedback": {"trace_id": "0" * 32, "score": 1},
}


def _record(headers: dict[str, str], value: bytes) -> bytes:
    return "\n".join(f"{name}: {text}" for name, text in headers.items()).encode() + b"\n\n" + value


def _events() -> Iterator[tuple[str, str, bytes]]:
    for name in TOLD:
        envelope = contract.from_cloudevent(json.loads((EXAMPLES / f"{name}.json").read_text()))
        record = contract.encode(envelope)
        headers = {key: text.decode() for key, text in record.headers}
        yield "event", name, _record(headers, record.value)
        told = json.dumps(contract.to_cloudevent(envelope)).encode()
        yield "cloudevent", name, told
        if name == "JobSubmitted":
            text = json_format.MessageToJson(envelope.message).encode()
            for what, value in (("json", text), ("json-not-utf-8", b"\xff" + text)):
                yield "event", what, _record({**headers, "content-type": "application/json"}, value)
            yield "event", "structured", _record({"content-type": contract.CLOUDEVENT_JSON}, told)
            yield "event", "nul-in-id", _record({**headers, "ce_id": "a\0b"}, record.value)
            yield (
                "event",
                "time-before-the-first-year",
                _record({**headers, "ce_time": "0001-01-01T00:00:00+23:59"}, record.value),
            )
            yield "event", "header-not-utf-8", b"ce_id: \xff\n" + _record(headers, record.value)
            hostile: dict[str, dict[str, Any]] = {
                "data-is-a-list": {"data": [1]}, "data-is-a-number": {"data": 5}, "data-is-a-text": {"data": "a"},
                "half-surrogate-as-enum": {"data": {"spec": {"spot_policy": "\ud800"}}},
                "half-surrogate-as-key": {"data": {"job_id": "\ud800"}},
                "half-surrogate-as-id": {"id": "\ud800"}, "nul-as-source": {"source": "a\0"},
                "half-surrogate-as-trace": {"traceparent": "\ud800"},
                "half-surrogate-as-time": {"time": "\ud800"}, "type-is-a-list": {"type": []},
            }  # fmt: skip
            for what, fields in hostile.items():
                yield "cloudevent", what, json.dumps({**contract.to_cloudevent(envelope), **fields}).encode()
    yield "cloudevent", "deep.gz", b'{"type":"sskai.events.v1.JobSubmitted","data":' + b'{"spec":' * 20_000
    yield "cloudevent", "many-digits.gz", b'{"id":' + b"9" * 900_000 + b"}"


def _datasets() -> Iterator[tuple[str, str, bytes]]:
    for name, row in ROWS.items():
        yield "dataset-jsonl", name, (json.dumps(row) + "\n").encode() * 3
    labelled = [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}]
    yield "dataset-jsonl", "classes", b"".join(json.dumps(row).encode() + b"\n" for row in labelled)
    for name, line in HOSTILE_ROWS.items():
        yield "dataset-jsonl", name + (".gz" if len(line) > 4_000 else ""), line + b"\n"
    for depth in (960, 970, 980, 990):
        inner = b"[" * depth + b"]" * depth
        yield "dataset-jsonl", f"deep-{depth}", b'{"chosen":[%s],"rejected":[%s]}\n' % (inner, inner)
    yield "dataset-csv", "classes", b'text,label\n"a, b",x\nc,y\n'
    yield "dataset-csv", "messages", b'messages\n"[{""role"":""assistant"",""content"":""a""}]"\n'
    yield "dataset-csv", "formula", b"text\n\"=cmd|'/C calc'!A0\"\n"
    yield "dataset-csv", "open-quote.gz", b'text\n"' + b"a\n" * 600_000
    yield "dataset-csv", "nul", b"text\na\0b\n"
    yield (
        "dataset-csv",
        "half-surrogate",
        b'messages\n"[{""role"":""assistant"",""content"":""a"",""x"":""\\ud800""}]"\n',
    )
    yield (
        "dataset-csv",
        "half-surrogate-converted",
        (b'conversations\n"[{""from"":[],""value"":""a""},{""from"":""gpt"",""value"":""\\ud800""}]"\n'),
    )
    yield "dataset-csv", "many-digits.gz", b"messages\n" + b"9" * 900_000 + b"\n"
    yield "dataset-csv", "long-name.gz", b"k" * 999_000 + b"\n1\n"
    tables: dict[str, list[dict[str, Any]]] = {
        "messages": [MESSAGES] * 3,
        "text": [{"text": "a"}, {"text": "b"}],
        "bytes": [{"messages": [{"role": "assistant", "content": "a", "x": b"\xff"}]}],
        "time": [{"messages": [{"role": "assistant", "content": "a", "x": NOW}]}],
        "not-a-number": [{"messages": [{"role": "assistant", "content": "a", "x": float("nan")}]}],
        "repeats": [{"text": "z" * 100_000}] * 2_000,
        "other-columns": [{"a\0b": 1}],
    }
    for name, rows in tables.items():
        out = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), out, compression="zstd")
        yield "dataset-parquet", name, out.getvalue()
    image = io.BytesIO()
    Image.new("RGB", (2, 2)).save(image, "PNG")
    png, wide = image.getvalue(), bytearray(image.getvalue())
    wide[16:24] = (60_000).to_bytes(4) * 2
    described = {"file_name": "a.png", "text": "a"}
    yield "dataset-zip", "classes", _zip({"x/a.png": png, "y/b.png": png})
    yield "dataset-zip", "described", _zip({"a.png": png, "metadata.jsonl": json.dumps(described).encode()})
    yield (
        "dataset-zip",
        "described-nul",
        _zip({"a.png": png, "metadata.jsonl": b'{"file_name":"a\\u0000","text":"\\ud800"}'}),
    )
    yield "dataset-zip", "huge-picture", _zip({"x/a.png": bytes(wide), "y/b.png": png})
    yield "dataset-zip", "slip", _zip({"../a.png": png, "y/b.png": png})
    yield "dataset-zip", "bomb", _zip({"x/a.png": bytes(10_000_000), "y/b.png": png})


def _zip(files: dict[str, bytes], *, attributes: int = 0) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            info.external_attr, info.compress_type = attributes, zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return out.getvalue()


def _tensors(header: str | bytes, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else header.encode()
    return len(text).to_bytes(8, "little") + text + data


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("a pickle was run",)


def _models() -> Iterator[tuple[str, str, bytes]]:
    one = '"dtype":"F32","shape":[2],"data_offsets":'
    tensors = {
        "one": _tensors(f'{{"__metadata__":{{"format":"pt"}},"a":{{{one}[0,8]}}}}', bytes(8)),
        "two": _tensors(f'{{"a":{{{one}[0,8]}},"b":{{{one}[8,16]}}}}', bytes(16)),
        "overlap": _tensors(f'{{"a":{{{one}[0,8]}},"b":{{{one}[4,12]}}}}', bytes(12)),
        "gap": _tensors(f'{{"a":{{{one}[0,8]}},"b":{{{one}[16,24]}}}}', bytes(24)),
        "past-the-end": _tensors(f'{{"a":{{{one}[0,8]}}}}', bytes(4)),
        "twice-the-same": _tensors(f'{{"a":{{{one}[4,12]}},"a":{{{one}[0,8]}}}}', bytes(8)),
        "metadata-not-texts": _tensors(f'{{"__metadata__":{{"x":1}},"a":{{{one}[0,8]}}}}', bytes(8)),
        "metadata-a-number": _tensors(f'{{"__metadata__":5,"a":{{{one}[0,8]}}}}', bytes(8)),
        "not-a-number": _tensors(f'{{"a":{{"x":NaN,{one}[0,8]}}}}', bytes(8)),
        "utf-16": _tensors(f'{{"a":{{{one}[0,8]}}}}'.encode("utf-16-le"), bytes(8)),
        "leading-space": _tensors(f' {{"a":{{{one}[0,8]}}}}', bytes(8)),
        "half-surrogate": _tensors(f'{{"\\ud800":{{{one}[0,8]}}}}', bytes(8)),
        "shape-overflows": _tensors(
            '{"a":{"dtype":"F32","shape":[4611686018427387904,8,0],"data_offsets":[0,0]}}', b""
        ),
        "negative": _tensors('{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,-8]}}', b""),
        "endless-header": (2**63).to_bytes(8, "little") + b"{}",
        "deep.gz": _tensors('{"a":' + "[" * 100_000, b""),
        "pickle": pickle.dumps(_Runs()),
    }
    for name, data in tensors.items():
        yield "model-safetensors", name, data
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512}
    configs = {
        "llama": json.dumps(config).encode(),
        "not-a-number": json.dumps({**config, "x": float("nan")}).encode(),
        "too-large-a-number": json.dumps(config).encode()[:-1] + b',"x":1e400}',
        "code-from-elsewhere": json.dumps({**config, "auto_map": {"AutoModel": "x.py"}}).encode(),
        "half-surrogate": json.dumps({**config, "x": "\ud800", "architectures": ["\ud800", None]}).encode(),
        "architectures-of-objects": json.dumps({**config, "architectures": [{}], "_class_name": [1]}).encode(),
        "many-digits.gz": json.dumps(config).encode()[:-1] + b',"x":' + b"9" * 1_000_000 + b"}",
    }
    for depth in (960, 970, 980, 990):
        configs[f"deep-{depth}"] = json.dumps(config).encode()[:-1] + b',"x":' + b"[" * depth + b"]" * depth + b"}"
    for name, data in configs.items():
        yield "model-config", name, data
    for protocol in (0, 1, 2, 5):
        yield "model-text", f"pickle-{protocol}", pickle.dumps(_Runs(), protocol)
    yield "model-text", "merges", b"#version: 0.2\na b\nab c\n"
    yield "model-text", "many-digits.gz", b"I" + b"9" * 1_000_000 + b"\n."
    yield "model-text", "endless", b"\x8e" + b"\xff" * 7 + b"\x7f" + b"a"
    code = {"model.py": b"import torch\n", "data.py": b"x = 1\n", "requirements.txt": b"numpy==2.0\n"}
    archives = {
        "whole": _zip({**code, "train.json": b'{"loss":"mse"}', "weights.safetensors": tensors["one"]}),
        "slip": _zip({**code, "../../evil.py": b"x"}),
        "absolute": _zip({**code, "/etc/evil.py": b"x"}),
        "link": _zip(code, attributes=0o120777 << 16),
        "bomb": _zip({**code, "x.bin": bytes(10_000_000)}),
        "pickle": _zip({**code, "x.npy": pickle.dumps(_Runs(), 0)}),
        "zip-in-zip": _zip({**code, "x.bin": _zip(code)}),
        "train-deep": _zip({**code, "train.json": b"[" * 5_000}),
        "train-half-surrogate": _zip({**code, "train.json": b'{"\\ud800":1}'}),
        "train-digits": _zip({**code, "train.json": b'{"loss":' + b"9" * 5_000 + b"}"}),
        "bad-weights": _zip({**code, "weights.safetensors": tensors["overlap"]}),
        "cut-short": _zip(code)[:-30],
    }
    for name, data in archives.items():
        yield "model-code", name, data
    yield "requirements", "plain", b"numpy==2.0 # fast\n\nscipy\n"
    yield "requirements", "options", b"--index-url http://evil\n"
    yield "requirements", "address", b"x @ git+https://evil/x\n"


def _requests() -> Iterator[tuple[str, str, bytes]]:
    yield "job-file", "whole", json.dumps(JOB).encode()
    yield "endpoint-file", "whole", json.dumps(ENDPOINT).encode()
    yield "endpoint-file", "infinite", json.dumps({**ENDPOINT, "latency": {"p95_seconds": float("inf")}}).encode()
    headers = "Content-Type: application/json\n\n"
    for name, job in HOSTILE_JOBS.items():
        yield "job-file", name, json.dumps(job).encode()
        yield "http", name, f"POST /v1/jobs: \n{headers}{json.dumps(job)}".encode()
    for route, form in REQUESTS.items():
        yield "http", route.partition("/v1/")[2].replace("/", "-"), f"{route}: \n{headers}{json.dumps(form)}".encode()
    bodies = {
        "many-digits.gz": b'{"name":' + b"9" * 900_000 + b"}", "deep.gz": b'{"name":' + b"[" * 100_000,
        "not-utf-8": b'{"name":"\xff"}', "empty": b"", "not-a-number": b"NaN", "list": b"[]",
    }  # fmt: skip
    for name, body in bodies.items():
        yield "http", f"body-{name}", f"POST /v1/jobs: \n{headers}".encode() + body
    parts = 'Content-Type: multipart/form-data; boundary=b\n\n--b\r\nContent-Disposition: form-data; name="'
    files = 'Content-Disposition: form-data; name="files"; filename="config.json"'
    form = f'{parts}name"\r\n\r\nmine\r\n--b\r\n{files}\r\n\r\n{{}}\r\n--b--\r\n'
    yield "http", "upload", f"POST /v1/models: \n{form}".encode()
    yield "http", "upload-half", f"POST /v1/models: \n{form[:150]}".encode()
    lines = "Content-Type: application/jsonl\n\n"
    yield "http", "dataset", f'POST /v1/datasets?name=a: \n{lines}{{"text":1}}'.encode()
    yield "http", "dataset-half-surrogate", f'POST /v1/datasets?name=a: \n{lines}{{"\\ud800":1}}'.encode()


def _interruptions() -> Iterator[tuple[str, str, bytes]]:
    folder = Path(messages.__file__).parent
    for path in sorted(folder.glob("*.json")):
        yield "interruption", path.stem, json.dumps(json.loads(path.read_text())).encode()
    warning = json.loads((folder / "spot_interruption_warning.json").read_text())
    hostile: dict[str, dict[str, Any]] = {
        "before-the-first-year": {"time": "0001-01-01T00:00:00+23:59"},
        "after-the-last-year": {"time": "9999-12-31T23:59:59-00:01"},
        "half-surrogate": {"id": "\ud800"}, "nul": {"id": "a\0"}, "detail-a-list": {"detail": []},
        "kind-a-list": {"detail-type": []},
        "action-an-object": {"detail": {"instance-action": {}, "instance-id": "i-1"}},
    }  # fmt: skip
    for name, fields in hostile.items():
        yield "interruption", name, json.dumps({**warning, **fields}).encode()
    health = json.loads((folder / "health_retirement.json").read_text())
    for name, entities in (("entities-an-object", {}), ("entities-texts", ["a"]), ("entities-null", None)):
        body = {**health, "detail": {**health["detail"], "affectedEntities": entities}}
        yield "interruption", name, json.dumps(body).encode()
    yield "interruption", "deep.gz", b'{"detail":' * 50_000
    yield "interruption", "many-digits.gz", b'{"id":' + b"9" * 200_000 + b"}"
    for name, fields in (
        ("whole", {"sequence": 1, "notice_seconds": 30}), ("sequence-a-text", {"sequence": "1"}),
        ("sequence-none", {"sequence": None}), ("notice-not-a-number", {"sequence": 1, "notice_seconds": float("nan")}),
        ("notice-endless", {"sequence": 1, "notice_seconds": 1e300}),
        ("notice-a-list", {"sequence": 1, "notice_seconds": []}),
        ("body-a-number", {"sequence": 1, "body": 5}),
    ):  # fmt: skip
        yield "local-cloud", name, json.dumps({"messages": [{"body": warning, **fields}]}).encode()
    yield "local-cloud", "deep.gz", b'{"messages":' + b"[" * 100_000
    yield "local-cloud", "messages-an-object", b'{"messages":{"a":1}}'
    yield "local-cloud", "list", b"[]"


def main() -> None:
    for maker in (_events, _datasets, _models, _requests, _interruptions):
        for target, name, data in maker():
            path = corpus.FOLDER / target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


if __name__ == "__main__":
    main()
