"""Image classifiers are counted: parameters and FLOPs are those that their authors tell."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest
from transformers import ResNetConfig, ViTConfig

from services.optimizer import messages
from services.optimizer.memory import ModelProfile
from services.optimizer.profile import answer
from services.optimizer.profiles import model_profile
from sskai.events import v1 as events
from tests.optimizer.made import planned, spec


def counted(config: Any, method: str) -> ModelProfile:
    return _counted(config.to_json_string(use_diff=False), method)


@cache
def _counted(config_json: str, method: str) -> ModelProfile:
    question = {
        "config_json": config_json,
        "method": method,
        "rank": 8,
        "alpha": 16,
        "target_modules": [],
        "sequence_length": 1,
        "labels": 1000,
        "pictures": True,
    }
    told = json.loads(answer(json.dumps(question)))
    assert "error" not in told, told
    return model_profile(told)


@pytest.mark.parametrize(
    ("config", "millions", "forward_gflops"),
    [
        # Dosovitskiy et al. 2021, table 1, and timm's 17.6 GMAC; He et al. 2016 with torchvision's 4.09 GMAC.
        (ViTConfig(), 86.6, 35.2),
        (ResNetConfig(), 25.6, 8.2),
    ],
)
def test_a_step_of_all_weights_is_three_forward_passes(config: Any, millions: float, forward_gflops: float) -> None:
    profile = counted(config, "full")
    assert profile.parameters / 1e6 == pytest.approx(millions, rel=0.01)
    assert profile.trainable_parameters == profile.parameters
    assert profile.flops_per_token / 1e9 == pytest.approx(3 * forward_gflops, rel=0.06)
    assert profile.float32.plain.fresh[0][1] > 50e6, "what the forward pass keeps for the backward pass"


@pytest.mark.parametrize("config", [ViTConfig(), ResNetConfig()])
def test_an_adapter_learns_little_beside_its_head(config: Any) -> None:
    profile = counted(config, "lora")
    head = 1000 * (getattr(config, "hidden_size", None) or config.hidden_sizes[-1]) + 1000
    assert head < profile.trainable_parameters < profile.parameters / 6
    assert profile.flops_per_token < counted(config, "full").flops_per_token


def test_a_picture_without_end_is_refused() -> None:
    question = {"config_json": ViTConfig(image_size=10**6).to_json_string(use_diff=False), "method": "full"}
    told = json.loads(answer(json.dumps({**question, "sequence_length": 1, "labels": 2, "pictures": True})))
    assert "at most" in told["error"]


def test_a_job_on_pictures_is_planned_by_what_was_counted() -> None:
    wanted = spec()
    wanted.model.method = "full"
    wanted.dataset.CopyFrom(
        events.DatasetRef(
            format="image-classification", rows=10_000, bytes=10**9, eval_fraction=0.01, labels=["a", "b"]
        )
    )
    request = messages.of_pictures(messages.request_of(wanted))
    question = messages.profile_question(wanted, request)
    assert (question["pictures"], question["labels"], question["sequence_length"]) == (True, 2, 1)
    plan = planned(request, profile=counted(ViTConfig(), "full"))
    assert plan.work.total_tokens == plan.work.total_steps * plan.work.batch_size, "a token a picture"
    on_gpus = [each for each in plan.candidates if each.pace.machine.accelerator_name]
    assert on_gpus, "100 GFLOP a picture are nothing for a CPU"
