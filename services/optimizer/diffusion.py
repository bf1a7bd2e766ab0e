"""What a text-to-image adapter asks of a machine: one step of the trainer's, counted without a single weight.

A step encodes pictures and texts without gradients, and lets the UNet predict the noise that was put over the
pictures; of all parts an adapter on the UNet alone learns. A picture is planned as a sequence of one token. diffusers
is imported here alone, so that no other model waits for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils.flop_counter import FlopCounterMode

from services.optimizer import liveness
from services.optimizer.memory import GRADIENT_BYTES

METHOD = "lora"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # what the trainer adapts unless it is told otherwise
PICTURES = 2  # that are counted: one alone is a special case to some operators
MAX_SIDE = 4096  # pixels
MAX_TOKENS = 4096
# What is about as many kernels as a layer of a language model.
LAYERS = ("ResnetBlock2D", "BasicTransformerBlock")


class PipelineError(ValueError):
    """The configuration cannot be built; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Its parts, on the meta device until they are put on fake tensors."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokens: int  # that a text is padded to

    @property
    def parts(self) -> tuple[Any, Any, Any]:
        return self.unet, self.vae, self.text_encoder

    @property
    def side(self) -> int:
        """Pixels of a picture's side, as the trainer scales it: each block of the autoencoder but the last halves it
        (Rombach et al., arXiv 2112.10752, section 3.1, f = 2^m)."""
        return int(self.unet.config.sample_size) << (len(self.vae.config.block_out_channels) - 1)

    def tensors(self) -> list[Any]:
        return [tensor for part in self.parts for tensor in (*part.parameters(), *part.buffers())]


def build(config_json: str, precision: Any = torch.float32) -> Pipeline:
    """The pipeline whose parts' configurations the gateway put into one document. Raises PipelineError."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    try:
        fields = json.loads(config_json)
        with torch.device("meta"):
            parts = (
                UNet2DConditionModel.from_config(fields["unet"]),
                AutoencoderKL.from_config(fields["vae"]),
                CLIPTextModel(CLIPTextConfig.from_dict(fields["text_encoder"])),
            )
        pipeline = Pipeline(*parts, int(fields["tokenizer"]["model_max_length"]))
        side = pipeline.side
    except Exception as error:  # whatever a broken configuration makes diffusers raise is the user's to read
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise PipelineError(
            f"no UNet2DConditionModel, AutoencoderKL and CLIPTextModel can be built from these configurations: {reason}"
        ) from error
    if not (0 < side <= MAX_SIDE and 0 < pipeline.tokens <= MAX_TOKENS):
        raise PipelineError(
            f"pictures of {side} pixels a side and texts of {pipeline.tokens} tokens; "
            f"at most {MAX_SIDE} and {MAX_TOKENS}"
        )
    for part in parts:
        torch.nn.Module.to(part, precision).requires_grad_(requires_grad=False).eval()  # diffusers' own `to` warns
    return pipeline


def with_adapter(pipeline: Pipeline, request: dict[str, Any]) -> Pipeline:
    """The same, with the trainer's adapter, in float32 whatever the UNet is in. Raises PipelineError."""
    from peft import LoraConfig

    lora = LoraConfig(
        r=request["rank"],
        lora_alpha=request["alpha"] or request["rank"],
        target_modules=list(request["target_modules"] or ATTENTION),
        use_dora=request.get("dora", False),
    )
    try:
        with torch.device("meta"):
            pipeline.unet.add_adapter(lora)
    except (ValueError, TypeError) as error:
        raise PipelineError(f"LoRA does not fit this UNet: {error}") from error
    for weight in learning(pipeline):
        weight.data = weight.data.float()
    return pipeline


def learning(pipeline: Pipeline) -> list[Any]:
    return [weight for weight in pipeline.unet.parameters() if weight.requires_grad]


def loss(pipeline: Pipeline, pictures: int) -> Any:
    """Of so many pictures, as the trainer computes it: the squared error of the predicted noise."""
    unet, side = pipeline.unet, pipeline.side
    with torch.no_grad():
        pixels = torch.empty(pictures, pipeline.vae.config.in_channels, side, side, dtype=unet.dtype)
        spread = pipeline.vae.encode(pixels).latent_dist
        latents = spread.mean.float() + spread.std.float() * torch.empty(spread.mean.shape)
        texts = pipeline.text_encoder(torch.zeros((pictures, pipeline.tokens), dtype=torch.long))[0]
    noise = torch.empty_like(latents)
    timesteps = torch.zeros(pictures, dtype=torch.long)
    predicted = unet((latents + noise).to(texts.dtype), timesteps, texts, return_dict=False)[0]
    return ((predicted.float() - noise) ** 2).mean(dim=(1, 2, 3)).sum()


def flops(pipeline: Pipeline) -> tuple[float, float]:
    """(of a step, of a step with gradient checkpointing) for one picture.

    The autoencoder's encoder and the text encoder run forward once. Of the UNet, whose weights are frozen, the backward
    pass computes gradients of what flows through it and of the adapter: about one forward pass more (two operations a
    multiplication, Kaplan et al., arXiv 2001.08361, section 2.1). Checkpointing repeats the UNet's forward pass (Chen
    et al., arXiv 1604.06174, section 3).
    """
    counter = FlopCounterMode(display=False, custom_mapping=liveness.ATTENTION)
    with counter:
        told = loss(pipeline, PICTURES)
        forward = sum(counter.get_flop_counts()[type(pipeline.unet).__name__].values())
        told.backward()
    whole = counter.get_total_flops()
    pipeline.unet.zero_grad(set_to_none=True)
    return whole / PICTURES, (whole + forward) / PICTURES


def count(request: dict[str, Any], fake: Callable[[Any], Any]) -> dict[str, Any]:
    """The fields of `memory.ModelProfile`. `request` as `profile.profile` has it; `fake` puts a model on fake tensors.
    Raises PipelineError."""
    if request["method"] != METHOD:
        raise PipelineError(f"model.method: text-to-image models learn by {METHOD}, not by {request['method']}")

    def made(precision: Any) -> Pipeline:
        with unset_fake_temporarily():
            pipeline = with_adapter(build(request["config_json"], precision), request)
        pipeline.unet.train()
        for part in pipeline.parts:
            fake(part)
        return pipeline

    with FakeTensorMode():
        whole = made(torch.float32)
        once, recomputing = flops(whole)
        learnt = [weight.numel() for weight in learning(whole)]
        return {
            "parameters": sum(weight.numel() for part in whole.parts for weight in part.parameters()) - sum(learnt),
            "trainable_parameters": sum(learnt),
            "largest_trainable_parameters": max(learnt),
            "layers": sum(type(module).__name__ in LAYERS for module in whole.unet.modules()),
            "linear_parameters": 0,
            "largest_linear_parameters": 0,
            "flops_per_token": once,
            "recomputing_flops_per_token": recomputing,
            "float32": memory_of(whole),
            "bfloat16": memory_of(made(torch.bfloat16)),
        }


def memory_of(pipeline: Pipeline) -> dict[str, Any]:
    """The fields of `memory.Precision`.

    All that a step makes has the pictures as its first dimension, but for the adapter's gradients and a few scalars: so
    its bytes alive are a line through those gradients, and one step is enough to draw it.
    """
    gradients = float(sum(weight.numel() for weight in learning(pipeline)) * GRADIENT_BYTES)

    def peaks() -> dict[str, Any]:
        step = liveness.observed(pipeline.tensors(), lambda: loss(pipeline, PICTURES))
        each = float(step.without_gradients.max()) / PICTURES
        return {"fresh": [[gradients, each]], "accumulating": [[0.0, each]]}

    plain = peaks()
    pipeline.unet.enable_gradient_checkpointing()
    return {
        "weight_bytes": sum(tensor.numel() * tensor.element_size() for tensor in pipeline.tensors()),
        "gradient_bytes": round(gradients),
        "plain": plain,
        "checkpointed": peaks(),
    }
