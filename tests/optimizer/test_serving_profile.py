"""What the real profiling worker says about serving: against hand counts, and about models that cannot be served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from services.optimizer import serving_messages
from services.optimizer.profiler import ProfileError, Profiler
from services.optimizer.serving_rates import ServingProfile
from sskai.events import v1 as events
from tests.optimizer.made import SMOLLM2
from tests.optimizer.served import SMALL, requested

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def profiler() -> AsyncIterator[Profiler]:
    warm = Profiler()
    yield warm
    await warm.close()


async def counted(profiler: Profiler, config: Any) -> ServingProfile:
    question = serving_messages.profile_question(requested(config=config).spec)
    return ServingProfile(**await profiler.profile(question))


@pytest.mark.heavy
async def test_smollm2_is_counted_as_it_is_built(profiler: Profiler) -> None:
    found = await counted(profiler, SMOLLM2)
    assert found == SMALL
    # 30 layers x keys and values x 3 heads x 64 values x 4 bytes.
    assert found.kv_bytes_per_token == 30 * 2 * 3 * 64 * 4
    # Two operations per parameter that is multiplied: the norms' 61 x 576 are not, the tied embedding is (as head).
    assert found.flops_per_token == 2 * (found.parameters - 61 * 576)
    # Two products (scores and values) of 9 heads x 64 values in 30 layers.
    assert found.attention_flops_per_pair == 30 * 2 * 2 * 9 * 64
    assert found.adapter_parameters_per_rank == 30 * (2 * (576 + 576) + 2 * (576 + 192) + 3 * (576 + 1536))


async def test_a_context_shorter_than_the_sample_is_no_obstacle(profiler: Profiler) -> None:
    short = await counted(profiler, SMOLLM2 | {"max_position_embeddings": 16})
    assert (short.context_length, short.kv_bytes_per_token) == (16, SMALL.kv_bytes_per_token)
    assert short.flops_per_token == SMALL.flops_per_token


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "skynet"}, "skynet"),
        ({"model_type": "mamba", "num_hidden_layers": 1}, "keeps no key-value cache"),
        (SMOLLM2 | {"num_hidden_layers": 10**6}, "the limit is 512"),
    ],
)
async def test_a_model_that_cannot_be_served_says_why(profiler: Profiler, config: Any, words: str) -> None:
    with pytest.raises(ProfileError, match=words):
        await counted(profiler, config)


async def test_a_question_without_a_configuration_is_answered_too(profiler: Profiler) -> None:
    with pytest.raises(ProfileError, match="not JSON"):
        await profiler.profile(serving_messages.profile_question(events.EndpointSpec()))
