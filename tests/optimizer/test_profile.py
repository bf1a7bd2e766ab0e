"""The profiling worker, as the real process: counts against transformers and peft themselves, and broken models."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from services.optimizer.memory import Lines
from services.optimizer.profiler import ProfileError, Profiler, WorkerError
from services.optimizer.profiles import model_profile
from tests.optimizer.made import SMOLLM2, SMOLLM2_FULL, SMOLLM2_PROFILE

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


@pytest.mark.heavy
async def test_smollm2_is_counted_as_transformers_and_peft_count_it(profiler: Profiler) -> None:
    counted = model_profile(await profiler.profile(question(SMOLLM2)))
    # 134,515,008 is what transformers' num_parameters says of the published model.
    assert counted == SMOLLM2_PROFILE
    # Rank 8 on all seven linear layers of 30 blocks: 8 x (inputs + outputs) of each.
    q, kv, mlp = 8 * (576 + 576), 8 * (576 + 192), 8 * (576 + 1536)
    assert counted.trainable_parameters == 30 * (2 * q + 2 * kv + 3 * mlp)


async def test_lora_costs_about_four_flops_per_parameter_and_token(profiler: Profiler) -> None:
    """Forward 2N, backward through frozen weights 2N more; attention and the adapter come on top."""
    short = model_profile(await profiler.profile(question(SMOLLM2, sequence_length=64)))
    assert 4.0 < short.flops_per_token / short.parameters < 4.5


async def test_full_training_is_counted_with_every_gradient(profiler: Profiler) -> None:
    counted = model_profile(await profiler.profile(question(SMOLLM2, method="full")))
    assert counted == SMOLLM2_FULL
    assert counted.trainable_parameters == counted.parameters == SMOLLM2_PROFILE.parameters
    # Forward 2N and backward 4N; the embedding of tied weights computes as the head.
    assert 6.0 < counted.flops_per_token / counted.parameters < 6.6
    # One more forward pass of all layers, but not of the head.
    again = (counted.recomputing_flops_per_token - counted.flops_per_token) / (2 * (counted.parameters - 49152 * 576))
    assert 0.8 < again < 1.2


def bytes_at(lines: Lines, sequences: int) -> float:
    return max(fixed + each * sequences for fixed, each in lines)


async def test_what_is_alive_grows_with_the_sequence_and_shrinks_with_checkpointing(profiler: Profiler) -> None:
    one, two = [model_profile(await profiler.profile(question(TINY, sequence_length=length))) for length in (128, 256)]
    for precision in ("float32", "bfloat16"):
        short, long = getattr(one, precision), getattr(two, precision)
        assert bytes_at(long.plain.fresh, 1) == pytest.approx(2 * bytes_at(short.plain.fresh, 1), rel=0.1)
        assert bytes_at(long.checkpointed.fresh, 8) < bytes_at(long.plain.fresh, 8)
    assert two.bfloat16.weight_bytes < 0.6 * two.float32.weight_bytes


async def test_fewer_modules_train_fewer_parameters(profiler: Profiler) -> None:
    some = model_profile(await profiler.profile(question(TINY, target_modules=["q_proj"])))
    everything = model_profile(await profiler.profile(question(TINY)))
    assert some.trainable_parameters == 2 * 8 * (64 + 64)
    assert some.trainable_parameters < everything.trainable_parameters
    assert some.parameters == everything.parameters


async def test_a_split_models_pieces_are_its_blocks_and_the_rest(profiler: Profiler) -> None:
    counted = model_profile(await profiler.profile(question(TINY, method="full")))
    assert counted.layers * counted.block_parameters + counted.outside_parameters == counted.parameters
    assert counted.outside_parameters == 500 * 64 + 64  # tied embeddings and the last norm


async def test_a_classifier_has_a_head_of_its_classes(profiler: Profiler) -> None:
    language, classes = [
        model_profile(await profiler.profile(question(TINY, method="full", labels=labels))) for labels in (0, 3)
    ]
    assert classes.parameters == language.parameters + 3 * 64
    # Forward and backward of the vocabulary's head, 6 operations a weight, are gone; and so are its logits.
    assert language.flops_per_token - classes.flops_per_token == pytest.approx(6 * 500 * 64, rel=0.02)
    assert bytes_at(classes.float32.plain.fresh, 8) < bytes_at(language.float32.plain.fresh, 8)


@pytest.mark.heavy
async def test_dora_learns_a_magnitude_of_each_output_and_holds_more(profiler: Profiler) -> None:
    plain, dora = [model_profile(await profiler.profile(question(TINY, dora=on))) for on in (False, True)]
    outputs = 64 + 32 + 32 + 64 + 128 + 128 + 64
    assert dora.trainable_parameters - plain.trainable_parameters == 2 * outputs
    assert bytes_at(dora.float32.plain.fresh, 4) > bytes_at(plain.float32.plain.fresh, 4)


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
    "method": (question(TINY, method="magic"), "use one of lora"),
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
    assert (await profiler.profile(question(TINY)))["layers"] == 2


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
