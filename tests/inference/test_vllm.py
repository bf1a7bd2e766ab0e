"""Replicas with vLLM: settings by table, and its documented API by a stand-in. No real vLLM runs here."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from services.inference.engine import EngineFailedError, Piece, PromptError, Sampling
from services.inference.remote_engine import Patience, RemoteEngine
from services.inference.replica.vllm_engine import end_tokens, request_body, step_of
from services.inference.replica.vllm_settings import (
    GIB,
    DoesNotFitError,
    Machine,
    Plan,
    Shape,
    machine_of,
    plan,
    shape_of,
)
from services.inference.replica.words import Exit
from services.inference.runner import Limits
from services.inference.transformers_engine import TransformersEngine
from sskai.local.objectstore import ObjectStore
from sskai.testing import wait_for
from tests.inference.artefacts import Published
from tests.inference.replicas import Home, ReplicaProcess

T4 = Machine(1, 15 * GIB, 7.5)
L4 = Machine(1, 23 * GIB, 8.9)
H100S = Machine(8, 80 * GIB, 9.0)
# Public config.json files: Llama 3.1 8B and 70B, Qwen2.5 0.5B.
LLAMA_8B = Shape(32, 4096, 14336, 32, 8, 128, 131072, 2 * 8_030_000_000)
LLAMA_70B = Shape(80, 8192, 28672, 64, 8, 128, 131072, 2 * 70_600_000_000)
QWEN_05B = Shape(24, 896, 4864, 14, 2, 64, 32768, 2 * 494_000_000)


def flags(made: Plan) -> dict[str, str]:
    assert all(flag.reason for flag in made.flags)
    return {flag.name: flag.value for flag in made.flags}


@pytest.mark.parametrize(
    ("shape", "machine", "ranks", "expected"),
    [
        (QWEN_05B, T4, [], {"--dtype": "float16", "--max-model-len": "32768", "--tensor-parallel-size": "1"}),
        (QWEN_05B, Machine(4, 15 * GIB, 7.5), [], {"--tensor-parallel-size": "2"}),  # 14 heads
        (LLAMA_8B, L4, [], {"--dtype": "bfloat16", "--gpu-memory-utilization": "0.91"}),
        (LLAMA_8B, L4, [8], {"--max-lora-rank": "8", "--max-loras": "2", "--enable-lora": ""}),
        (LLAMA_8B, L4, [12, 33], {"--max-lora-rank": "64", "--max-loras": "3"}),
        (LLAMA_70B, H100S, [16], {"--tensor-parallel-size": "8", "--max-model-len": "131072", "--max-num-seqs": "256"}),
    ],
)
def test_settings_follow_from_model_machine_and_adapters(
    shape: Shape, machine: Machine, ranks: list[int], expected: dict[str, str]
) -> None:
    made = flags(plan(shape, machine, "base", ranks))
    assert made | expected == made
    assert ("--enable-lora" in made) == bool(ranks)


def test_the_context_is_what_the_memory_is_enough_for() -> None:
    made = plan(LLAMA_8B, L4, "base")
    # 0.91 x 23 GiB less 2 GiB of activations and 15 GiB of weights, at 128 KiB a token.
    room = 0.91 * 23 * GIB - 2 * GIB - 2 * 8_030_000_000
    assert made.context_tokens == int(room // (128 * 1024))
    assert made.context_tokens < 131072
    assert 1 <= made.sequences < 256
    assert plan(LLAMA_8B, L4, "base", [64]).context_tokens < made.context_tokens


@pytest.mark.parametrize(
    ("shape", "machine", "ranks", "words"),
    [
        (LLAMA_70B, L4, [], "choose a machine with more GPU memory"),
        (LLAMA_8B, T4, [], "GiB a GPU too little"),
        (QWEN_05B, T4, [1024], "rank 1024 is over vLLM's 512"),
    ],
)
def test_what_does_not_fit_is_refused(shape: Shape, machine: Machine, ranks: list[int], words: str) -> None:
    with pytest.raises(DoesNotFitError, match=words):
        plan(shape, machine, "base", ranks)


def test_shapes_and_machines_are_read_from_what_others_write() -> None:
    config = {
        "num_hidden_layers": 24,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
    }
    assert shape_of(config, 494_000_000) == QWEN_05B
    assert shape_of({"text_config": config}, 494_000_000) == QWEN_05B
    with pytest.raises(DoesNotFitError):
        shape_of({"model_type": "bert"}, 1)
    assert machine_of("15360, 7.5\n15360, 7.5\n") == Machine(2, 15 * GIB, 7.5)
    for listing in ("", "No devices were found"):
        with pytest.raises((DoesNotFitError, ValueError)):
            machine_of(listing)


def test_a_request_goes_on_with_other_dice_and_fewer_tokens() -> None:
    how = Sampling(50, seed=3, min_tokens=20, logit_bias=((7, -100.0),), top_logprobs=2, schema='{"type": "object"}')
    body = request_body("m", [1, 2, 3, 4], how, 2, [9])
    assert (body["max_tokens"], body["min_tokens"], body["seed"]) == (48, 18, 5)
    assert body["logit_bias"] == {"7": -100.0}
    assert body["structured_outputs"] == {"json": {"type": "object"}}
    assert "seed" not in request_body("m", [1], replace(how, seed=None), 0, [9])


def test_chunks_are_read_as_documented() -> None:
    choice = {
        "index": 0,
        "token_ids": [5],
        "finish_reason": "stop",
        "logprobs": {"token_logprobs": [-0.5], "top_logprobs": [{"token_id:5": -0.5, "token_id:6": -0.25}]},
    }
    step = step_of(json.dumps({"choices": [choice]}).encode(), 1)
    assert (step.drawn[0].token, step.drawn[0].top, step.finish_reason) == (5, ((6, -0.25),), "stop")
    usage = {"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": 16}}}
    assert step_of(json.dumps(usage).encode(), 0).cached_tokens == 16
    for bad in (b'{"error": {"message": "CUDA"}}', b"{", b'{"choices": [{}]}', b'{"choices": [{"token_ids": [1]}]}'):
        with pytest.raises(EngineFailedError):
            step_of(bad, 0)
    assert end_tokens({"eos_token_id": 1}, {"eos_token_id": [2, 3]}, 4) == {2, 3, 4}
    assert end_tokens({"eos_token_id": 1}, {}, None) == {1}


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    made = Home()
    yield made
    made.close()


@pytest.fixture(scope="module")
def environment(
    models_dir: Path, object_store: ObjectStore, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """A machine with `nvidia-smi` and `vllm`: one L4, and the stand-in."""
    programs = tmp_path_factory.mktemp("programs")
    for name, script in {
        "nvidia-smi": "echo '23034, 8.9'",
        "vllm": f'exec {sys.executable} -m tests.inference.vllm_stand_in "$@"',
    }.items():
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "SSKAI_MODELS_DIR": str(models_dir),
        "SSKAI_CACHE": str(tmp_path_factory.mktemp("cache")),
        "SSKAI_OBJECTS_URL": object_store.url,
        "SSKAI_OBJECTS_BUCKET": object_store.bucket,
        "SSKAI_OBJECTS_ACCESS_KEY": object_store.credentials.access_key,
        "SSKAI_OBJECTS_SECRET_KEY": object_store.credentials.secret_key,
    }


@pytest.fixture(scope="module")
def pair(
    home: Home, environment: dict[str, str], published: dict[str, Published], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[ReplicaProcess]]:
    """Two replicas of one adapter's endpoint."""
    cats, folder = published["cats"], tmp_path_factory.mktemp("logs")
    endpoint = {"base_uri": "builtin://tiny", "artifact_uri": cats.uri, "engine": "vllm"}
    made = [ReplicaProcess(f"vllm_{number}", home, environment, folder / str(number), endpoint) for number in range(2)]
    yield made
    for one in made:
        one.process.kill()
        one.process.wait()


@pytest.fixture(scope="module")
def direct(tiny: Path, adapters: dict[str, Path]) -> Iterator[TransformersEngine]:
    made = TransformersEngine(limits=Limits(4, 4, 256), max_context_tokens=4096, threads=1, device="cpu")
    made.load_base("tiny", tiny)
    made.attach_adapter("tiny", "cats", adapters["cats"])
    yield made
    made.close()


def whole(pieces: list[Piece]) -> tuple[str, tuple[int, ...], str | None, int]:
    text = "".join(piece.text for piece in pieces)
    return text, tuple(t for piece in pieces for t in piece.tokens), pieces[-1].finish_reason, pieces[-1].output_tokens


SCHEMA = {"type": "array", "items": {"type": "integer", "maximum": 999, "minimum": 0}, "minItems": 12, "maxItems": 12}
SAYINGS = {
    "greedy": Sampling(40, temperature=0, min_tokens=40, top_logprobs=3),
    "penalties": Sampling(40, seed=5, frequency_penalty=1.5, presence_penalty=0.5, min_tokens=40),
    "stopped": Sampling(40, temperature=0, min_tokens=40, stop=("never said",)),
    "schema": Sampling(100, seed=7, schema=json.dumps(SCHEMA)),
}


@pytest.mark.heavy
async def test_a_replica_with_vllm_answers_as_the_embedded_engine_does_and_goes_on_for_another(
    pair: list[ReplicaProcess], home: Home, direct: TransformersEngine
) -> None:
    await wait_for(lambda: all(one.is_ready() for one in pair), limit_seconds=200)
    remote = RemoteEngine(home, Patience(wait=60))
    tokens = await asyncio.to_thread(remote.encode_text, "end_1", "What is the capital of France?")
    assert remote.context_tokens("end_1") == 512
    for how in SAYINGS.values():
        (expected,) = direct.generate("tiny", "cats", tokens, how)
        said = [piece async for piece in expected.pieces()]
        (generation,) = remote.generate("end_1", None, tokens, how)
        answer = [piece async for piece in generation.pieces()]
        assert whole(answer) == whole(said)
        assert answer[-1].mean_logprob == pytest.approx(said[-1].mean_logprob, abs=1e-3)
        assert [len(one.top) for piece in answer for one in piece.logprobs] == [
            len(one.top) for piece in said for one in piece.logprobs
        ]
    processes = {one.replica_id: one for one in pair}
    for how in (SAYINGS["greedy"], SAYINGS["schema"]):
        (expected,) = direct.generate("tiny", "cats", tokens, how)
        said = [piece async for piece in expected.pieces()]
        (generation,) = remote.generate("end_1", None, tokens, how)
        pieces: list[Piece] = []
        async for piece in generation.pieces():
            pieces.append(piece)
            if len(pieces) == 3 and how is SAYINGS["schema"]:
                (at,) = remote._busy
                processes[at].process.kill()
        assert whole(pieces) == whole(said)
    assert len(home.failures) == 1
    with pytest.raises(PromptError, match="embeddings"):
        await anext(remote.embed("end_1", None, [tokens])[0].pieces())
    remote.close()


@pytest.mark.heavy
async def test_a_replica_whose_vllm_dies_says_so_and_ends(
    home: Home, environment: dict[str, str], tmp_path: Path
) -> None:
    endpoint = {"base_uri": "builtin://tiny", "engine": "vllm"}
    replica = ReplicaProcess("vllm_dying", home, environment, tmp_path / "log", endpoint)
    await wait_for(replica.is_ready, limit_seconds=200)
    threads = Path(f"/proc/{replica.process.pid}/task").glob("*/children")
    (child,) = [int(pid) for thread in threads for pid in thread.read_text().split()]
    os.kill(child, 9)
    await wait_for(lambda: replica.process.poll() is not None, limit_seconds=60)
    assert replica.process.returncode == Exit.INTERNAL
    report = home.last("vllm_dying")
    assert report is not None
    assert (report.state, report.reason) == ("failed", "internal")


async def test_a_machine_without_vllm_or_without_a_gpu_is_told_so(
    home: Home, environment: dict[str, str], tmp_path: Path
) -> None:
    endpoint = {"base_uri": "builtin://tiny", "engine": "vllm"}
    cases = {
        "vllm_absent": ({"SSKAI_VLLM_COMMAND": "no-such-vllm"}, "install vllm there"),
        "gpu_absent": ({"PATH": os.environ["PATH"]}, "no GPU is found"),
    }
    for replica_id, (changes, words) in cases.items():
        replica = ReplicaProcess(replica_id, home, environment | changes, tmp_path / replica_id, endpoint)
        await wait_for(lambda replica=replica: replica.process.poll() is not None, limit_seconds=200)
        assert replica.process.returncode == Exit.MISCONFIGURED
        report = home.last(replica_id)
        assert report is not None
        assert report.reason == "missing-engine"
        assert words in report.detail
