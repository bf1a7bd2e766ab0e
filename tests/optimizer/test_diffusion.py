"""Text-to-image models are counted: parts by what their authors tell, a step by the trainer's own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from services.optimizer import diffusion, liveness, messages
from services.optimizer.memory import ModelProfile
from services.optimizer.profile import answer
from services.optimizer.profiles import model_profile
from services.trainer import diffusion as trainer
from services.trainer import pictures, products
from services.trainer.domain import Recipe
from sskai.events import v1 as events
from tests import tiny_diffusion
from tests.optimizer.made import planned, spec

RANK = 4
STABLE_DIFFUSION = {  # 1.5
    "unet": {
        "sample_size": 64,
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
        "block_out_channels": [320, 640, 1280, 1280],
    },
    "vae": {
        "block_out_channels": [128, 256, 512, 512],
        "layers_per_block": 2,
        "latent_channels": 4,
        "down_block_types": ["DownEncoderBlock2D"] * 4,
        "up_block_types": ["UpDecoderBlock2D"] * 4,
    },
    "text_encoder": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
    "tokenizer": {"model_max_length": 77},
}


def question(config: dict[str, Any] | str, **changes: Any) -> dict[str, Any]:
    text = config if isinstance(config, str) else json.dumps(config)
    return {
        "config_json": text,
        "method": "lora",
        "rank": RANK,
        "alpha": RANK,
        "target_modules": [],
        "sequence_length": 1,
        "pipeline": True,
        **changes,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_diffusion.build(tmp_path_factory.mktemp("pipeline"))


@pytest.fixture(scope="module")
def counted(folder: Path) -> ModelProfile:
    told = json.loads(answer(json.dumps(question(tiny_diffusion.config(folder)))))
    assert "error" not in told, told
    return model_profile(told)


@pytest.fixture
def task(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trainer.TextToImage:
    """The trainer's, on real weights and real pictures."""
    monkeypatch.setattr(products, "quicken", lambda _model: None)  # torch's counter does not know oneDNN's products
    (tmp_path / "data.zip").write_bytes(tiny_diffusion.dataset(4))
    rows = pictures.described(tmp_path / "data.zip", tmp_path / "pictures")
    recipe = Recipe(
        total_steps=1,
        batch_size=2,
        micro_batch_size=2,
        sequence_length=1,
        learning_rate=1e-4,
        warmup_steps=1,
        checkpoint_interval_steps=1,
        keep_checkpoints=1,
        evaluation_rows=0,
        seed=0,
        rank=RANK,
        alpha=RANK,
    )
    made = trainer.TextToImage(trainer.load_base(folder, torch.device("cpu")), recipe, rows, [])
    made.model.train()
    return made


def test_the_parts_are_as_large_as_their_authors_say() -> None:
    """https://github.com/CompVis/stable-diffusion: an 860M UNet and a 123M text encoder; the adapter of rank 4 is that
    of diffusers' guide, whose file has 3.2 MB."""
    built = diffusion.with_adapter(diffusion.build(json.dumps(STABLE_DIFFUSION)), question(STABLE_DIFFUSION))
    learning = sum(weight.numel() for weight in diffusion.learning(built))
    sizes = [sum(weight.numel() for weight in part.parameters()) for part in built.parts]
    assert [round(size / 1e6) for size in (sizes[0] - learning, *sizes[1:])] == [860, 84, 123]
    assert learning * 4 == pytest.approx(3.2e6, rel=0.01)
    assert (built.side, built.tokens) == (512, 77)


def test_operations_are_those_of_the_trainers_step(counted: ModelProfile, task: trainer.TextToImage) -> None:
    with FlopCounterMode(display=False, custom_mapping=liveness.ATTENTION) as counter:
        task.loss(task.training[:2]).backward()
    assert counted.flops_per_token == pytest.approx(counter.get_total_flops() / 2, rel=1e-9)


def test_checkpointing_repeats_the_unets_forward_pass(counted: ModelProfile, task: trainer.TextToImage) -> None:
    """By the closed forms: 2 c_in c_out k^2 for each pixel of a convolution, 2 n m for each row of a linear layer, and
    4 d for each pair of tokens of an attention."""
    operations = 0

    def add(module: Any, given: tuple[Any, ...], named: dict[str, Any], out: Any) -> None:
        nonlocal operations
        if isinstance(module, torch.nn.Conv2d):
            operations += 2 * out.numel() * module.in_channels * module.kernel_size[0] * module.kernel_size[1]
        elif isinstance(module, torch.nn.Linear):
            operations += 2 * out.numel() * module.in_features
        else:
            hidden = given[0]
            other = named.get("encoder_hidden_states")
            keys = hidden.shape[1] if other is None else other.shape[1]
            operations += 4 * hidden.shape[0] * hidden.shape[1] * keys * module.inner_dim

    for module in task.model.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) or type(module).__name__ == "Attention":
            module.register_forward_hook(add, with_kwargs=True)
    task.loss(task.training[:1])
    assert counted.recomputing_flops_per_token - counted.flops_per_token == pytest.approx(operations, rel=0.001)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_bytes_are_those_of_the_trainers_step(
    counted: ModelProfile, task: trainer.TextToImage, *, checkpointing: bool
) -> None:
    base = task._parts
    standing = [*task.model.parameters(), *base.vae.parameters(), *base.text_encoder.parameters()]
    standing += [*task.model.buffers(), *base.vae.buffers(), *base.text_encoder.buffers()]
    if checkpointing:
        task.model.enable_gradient_checkpointing()
    whole = sum(tensor.numel() * tensor.element_size() for tensor in standing)
    assert counted.float32.weight_bytes == pytest.approx(whole, rel=1e-3)
    real = liveness.observed(standing, lambda: task.loss(task.training[:3])).without_gradients.max()
    peaks = counted.float32.checkpointed if checkpointing else counted.float32.plain
    assert peaks.accumulating[0][1] * 3 == pytest.approx(real, rel=0.1)


def test_checkpointing_and_half_precision_take_less(counted: ModelProfile) -> None:
    def each(peaks: Any) -> float:
        return float(peaks.fresh[0][1])

    assert each(counted.float32.checkpointed) < each(counted.float32.plain)
    assert counted.bfloat16.weight_bytes < counted.float32.weight_bytes * 0.6
    assert counted.bfloat16.gradient_bytes == counted.trainable_parameters * 4 == counted.float32.gradient_bytes


def test_a_weight_decomposed_adapter_learns_a_size_of_each_output_beside(folder: Path, counted: ModelProfile) -> None:
    config = tiny_diffusion.config(folder)
    told = json.loads(answer(json.dumps(question(config, dora=True))))
    assert "error" not in told, told
    unet = diffusion.build(config).unet
    adapted = [each for name, each in unet.named_modules() if name.endswith(diffusion.ATTENTION)]
    assert told["trainable_parameters"] - counted.trainable_parameters == sum(each.out_features for each in adapted)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "full"}, "model.method: text-to-image models learn by lora, not by full"),
        ({"config_json": "{}"}, "can be built"),
        ({"config_json": "nothing"}, "can be built"),
        ({"config_json": json.dumps({**STABLE_DIFFUSION, "tokenizer": {"model_max_length": 10**9}})}, "at most"),
        (
            {"config_json": json.dumps({**STABLE_DIFFUSION, "unet": {"sample_size": 10**6, "cross_attention_dim": 8}})},
            "at most",
        ),
        ({"target_modules": ["nothing_like_it"]}, "LoRA does not fit"),
    ],
)
def test_what_cannot_be_counted_says_why(changes: dict[str, Any], says: str) -> None:
    assert says in json.loads(answer(json.dumps(question(STABLE_DIFFUSION, **changes))))["error"]


def test_a_job_is_planned_by_what_was_counted(counted: ModelProfile) -> None:
    wanted = spec()
    wanted.model.method = "lora"
    wanted.dataset.CopyFrom(events.DatasetRef(format="text-to-image", rows=1000, bytes=10**8, eval_fraction=0.01))
    request = messages.of_pictures(messages.request_of(wanted))
    asked = messages.profile_question(wanted, request)
    assert (asked["pipeline"], asked["pictures"], asked["labels"], asked["sequence_length"]) == (True, False, 0, 1)
    # As large as Stable Diffusion is, without the minute that counting it takes.
    large = replace(counted, flops_per_token=2.9e12, recomputing_flops_per_token=3.7e12, parameters=1_066_235_307)
    plan = planned(request, profile=large)
    assert plan.work.total_tokens == plan.work.total_steps * plan.work.batch_size, "a token a picture"
    assert plan.work.learning_rate == 1e-4
    assert plan.candidates[0].pace.machine.accelerator_name, "three TFLOPs a picture are nothing for a CPU"
