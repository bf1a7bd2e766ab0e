"""The profiling worker, as the real process: counts against transformers and peft themselves, and broken models."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

import pytest
import pytest_asyncio

from services.optimizer.profiler import ProfileError, Profiler, WorkerError
from services.optimizer.work import ModelProfile
from tests.optimizer.made import SMOLLM2, SMOLLM2_PROFILE

TINY = SMOLLM2 | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 500,
    "max_position_embeddings": 256,
}


def question(config: Any, **changes: Any) -> dict[str, Any]:
    text = config if isinstance(config, str) else json.dumps(config)
    base = {"method": "lora", "rank": 8, "alpha": 16, "target_modules": [], "sequence_length": 256}
    return {"config_json": text, **base, **changes}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def profiler() -> AsyncIterator[Profiler]:
    """One warm worker for the module, as in production."""
    warm = Profiler()
    yield warm
    await warm.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_smollm2_is_counted_as_transformers_and_peft_count_it(profiler: Profiler) -> None:
    counted = ModelProfile(**await profiler.profile(question(SMOLLM2)))
    # 134,515,008 is what transformers' num_parameters says of the published model.
    assert counted == SMOLLM2_PROFILE
    # Rank 8 on all seven linear layers of 30 blocks: 8 x (inputs + outputs) of each.
    q, kv, mlp = 8 * (576 + 576), 8 * (576 + 192), 8 * (576 + 1536)
    assert counted.trainable_parameters == 30 * (2 * q + 2 * kv + 3 * mlp)


async def test_lora_costs_about_four_flops_per_parameter_and_token(profiler: Profiler) -> None:
    """Forward 2N, backward through frozen weights 2N more; attention and the adapter come on top."""
    short = ModelProfile(**await profiler.profile(question(SMOLLM2, sequence_length=64)))
    assert 4.0 < short.flops_per_token / short.parameters < 4.5


async def test_activations_grow_linearly_with_the_sequence(profiler: Profiler) -> None:
    one, two = [ModelProfile(**await profiler.profile(question(TINY, sequence_length=length))) for length in (128, 256)]
    assert two.activation_bytes_per_sequence == pytest.approx(2 * one.activation_bytes_per_sequence, rel=0.01)
    assert two.logits_bytes_per_sequence == 2 * one.logits_bytes_per_sequence == 4 * 256 * 500


async def test_fewer_modules_train_fewer_parameters(profiler: Profiler) -> None:
    some = ModelProfile(**await profiler.profile(question(TINY, target_modules=["q_proj"])))
    everything = ModelProfile(**await profiler.profile(question(TINY)))
    assert some.trainable_parameters == 2 * 8 * (64 + 64)
    assert some.trainable_parameters < everything.trainable_parameters
    assert some.parameters == everything.parameters


BROKEN = {
    "no JSON": (question("{"), "not JSON"),
    "no object": (question("[1]"), "model_type"),
    "no type": (question({}), "model_type"),
    "unknown type": (question({"model_type": "skynet"}), "skynet"),
    "heads": (question(TINY | {"num_attention_heads": 7}), "transformers cannot build"),
    "negative": (question(TINY | {"hidden_size": -64}), "transformers cannot build"),
    "text": (question(TINY | {"hidden_size": "large"}), "hidden_size"),
    "layers": (question(TINY | {"num_hidden_layers": 10**6}), "the limit is 512"),
    "size": (question(TINY | {"vocab_size": 10**13}), "parameters; the limit is"),
    "no causal model": (question({"model_type": "t5"}), "transformers cannot build"),
    "method": (question(TINY, method="magic"), "use 'lora'"),
    "modules": (question(TINY, target_modules=["nowhere"]), "nowhere"),
    "rank": (question(TINY, rank=0), "LoRA does not fit"),
}


@pytest.mark.parametrize(("asked", "words"), BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_model_is_the_users_to_mend(profiler: Profiler, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ProfileError, match=words):
        await profiler.profile(asked)


async def test_no_code_from_outside_runs(profiler: Profiler) -> None:
    remote = TINY | {"auto_map": {"AutoModelForCausalLM": "evil--model.Evil"}}
    assert (await profiler.profile(question(remote)))["parameters"] > 0


async def test_a_dead_worker_is_told_and_replaced(profiler: Profiler) -> None:
    await profiler.start()
    process = profiler._process
    assert process is not None
    process.kill()
    await process.wait()
    assert asdict(ModelProfile(**await profiler.profile(question(TINY))))["layers"] == 2


async def test_a_worker_that_takes_too_long_is_killed(profiler: Profiler) -> None:
    await profiler.start()
    process = profiler._process
    assert process is not None
    profiler._limit_seconds = 0.001
    try:
        with pytest.raises(WorkerError):
            await profiler.profile(question(SMOLLM2))
    finally:
        profiler._limit_seconds = 60
    assert process.returncode is not None


async def test_the_service_itself_never_imports_torch() -> None:
    code = "import sys, services.optimizer.main; print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    found = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert found.stdout.strip() == "[]"
