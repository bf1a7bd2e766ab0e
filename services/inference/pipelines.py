"""A text-to-image pipeline of diffusers in this process, with the adapters that the trainer makes of it.

Classes are named here, never read from a file: those that the trainer can tune. Adapters lie on the UNet beside each
other, and one of them, or none, is switched on for a picture. Not safe for several threads, but for `count_tokens`.
diffusers is imported at the first load: it takes seconds, and most processes never need it.
"""

from __future__ import annotations

import itertools
import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from services.inference import domain
from services.inference.drawings import MAX_STEPS, Canvas, Drawing, Picture
from services.inference.engine import EngineError, UnusableWeightsError
from services.inference.manifests import PIPELINE, PIPELINE_ADAPTER

CLASSES = ("StableDiffusionPipeline",)
# Those that take one another's configuration and predict a picture from noise as Stable Diffusion learns it.
SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)
PREFIX = "unet."
DOWN, UP, LENGTH = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"
# What diffusers calls them in attention layers; in others they keep PEFT's names.
ATTENTION_NAMES = {".lora.down.weight": DOWN, ".lora.up.weight": UP}
LATENT_UNIT = 8  # StableDiffusionPipeline takes no sides that are not multiples of it


class LeftError(Exception):
    """Nobody waits for the picture any more."""


class Pipeline:
    """Raises UnusableWeightsError, and what from_pretrained raises."""

    def __init__(self, folder: Path, device: str) -> None:
        self._pipe: Any = _read(folder, device)
        unet = self._pipe.unet
        self._layers = {name: layer for name, layer in unet.named_modules() if isinstance(layer, nn.Linear)}
        self._names = (f"adapter_{number}" for number in itertools.count())
        self._attached: set[str] = set()
        # One of its own: while the pipeline's reads a prompt, others may be counted.
        self._counting = _tokenizer(folder)
        self._lock = threading.Lock()
        self.canvas = _canvas(self._pipe)
        self._prove()

    @staticmethod
    def is_one(folder: Path) -> bool:
        return (folder / PIPELINE).is_file()

    def count_tokens(self, text: str) -> int:
        """With the marks of beginning and end. May be called from any thread."""
        with self._lock:
            return len(self._counting(text)["input_ids"])

    def attach(self, folder: Path) -> str:
        """Put an adapter beside the others; its name here. Raises UnusableWeightsError."""
        try:
            with safe_open(folder / PIPELINE_ADAPTER, "pt") as file:
                told = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "null"))
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
            own = {key.removeprefix(PREFIX): value for key, value in told.items()} if isinstance(told, dict) else None
            config = domain.AdapterConfig.parse(own)
        except (OSError, ValueError, SafetensorError) as error:
            raise UnusableWeightsError(f"the adapter cannot be read: {error}") from error
        layers = self._checked({_peft_name(key): tensor for key, tensor in tensors.items()}, config)
        name = next(self._names)
        metadata = {
            "r": config.rank,
            "lora_alpha": config.alpha,
            "use_rslora": config.rank_stabilised,
            "use_dora": config.dora,
            "target_modules": sorted(layers),
        }
        self._pipe.unet.load_lora_adapter(
            {f"{layer}{end}": tensor for layer, parts in layers.items() for end, tensor in parts.items()},
            prefix=None,
            adapter_name=name,
            metadata=metadata,
        )
        self._attached.add(name)
        return name

    def _checked(
        self, tensors: Mapping[str, torch.Tensor], config: domain.AdapterConfig
    ) -> dict[str, dict[str, torch.Tensor]]:
        """An adapter's tensors by layer and kind, if all of them belong to this UNet: diffusers leaves out what it does
        not know. Raises UnusableWeightsError."""
        ends = (DOWN, UP, LENGTH) if config.dora else (DOWN, UP)
        layers: dict[str, dict[str, torch.Tensor]] = {}
        for key in tensors:
            end = next((end for end in ends if key.endswith(end)), None)
            if end is None or not key.startswith(PREFIX):
                raise UnusableWeightsError(f"the adapter has a tensor {key!r}: only LoRA on the UNet is served")
            layers[key.removeprefix(PREFIX).removesuffix(end)] = {}
        if not layers:
            raise UnusableWeightsError("the adapter has no tensors")
        for name, parts in layers.items():
            layer = self._layers.get(name)
            if layer is None:
                raise UnusableWeightsError(f"the UNet has no linear layer {name!r}: the adapter is of another model")
            shapes: dict[str, tuple[int, ...]] = {
                DOWN: (config.rank, layer.in_features),
                UP: (layer.out_features, config.rank),
                LENGTH: (layer.out_features,),
            }
            for end in ends:
                parts[end] = _fitting(f"{PREFIX}{name}{end}", tensors, shapes[end])
        return layers

    def detach(self, name: str) -> None:
        """Give an adapter's memory back."""
        self._attached.discard(name)
        self._pipe.unet.delete_adapters(name)

    def draw(self, adapter: str | None, drawing: Drawing, left: Callable[[], bool]) -> Picture:
        """`adapter`: by its name here. Asks after each step whether everybody has `left`, and then raises LeftError."""
        started = time.perf_counter()
        self._switch(adapter)

        def go_on(_pipe: Any, _step: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
            if left():
                raise LeftError
            return {}

        (pixels,) = self._pipe(
            drawing.prompt,
            negative_prompt=drawing.negative_prompt,
            width=drawing.width,
            height=drawing.height,
            num_inference_steps=drawing.steps,
            guidance_scale=drawing.guidance_scale,
            # Drawn on the CPU, the noise is the same on every device.
            generator=torch.Generator().manual_seed(drawing.seed),
            callback_on_step_end=go_on,
            callback_on_step_end_tensor_inputs=[],
            output_type="pt",
        ).images
        if not torch.isfinite(pixels).all():
            raise EngineError(
                "the picture is not made of finite numbers: ask for other steps or another guidance_scale"
            )
        rows = (pixels.float() * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
        return Picture(drawing.width, drawing.height, rows.tobytes(), time.perf_counter() - started)

    def _switch(self, adapter: str | None) -> None:
        if adapter is not None:
            self._pipe.unet.enable_adapters()
            self._pipe.unet.set_adapter(adapter)
        elif self._attached:
            self._pipe.unet.disable_adapters()

    def _prove(self) -> None:
        """The smallest picture: parts that do not fit each other fail here, not later."""
        side, steps = self.canvas.least, self.canvas.fewest_steps
        try:
            self.draw(None, Drawing("a", "", side, side, steps, 2.0, 0), lambda: False)
        except EngineError as error:
            raise UnusableWeightsError(f"the pipeline's answer to a trial: {error}") from error


def _peft_name(key: str) -> str:
    end = next((end for end in ATTENTION_NAMES if key.endswith(end)), None)
    return key if end is None else key.removesuffix(end) + ATTENTION_NAMES[end]


def _fitting(name: str, tensors: Mapping[str, torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
    """Raises UnusableWeightsError."""
    tensor = tensors.get(name)
    if tensor is None or tensor.shape != shape:
        found = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
        raise UnusableWeightsError(f"{name} is {found}: it must have the shape {shape}")
    if not torch.isfinite(tensor).all():
        raise UnusableWeightsError(f"{name} is not made of finite numbers")
    return tensor


def _read(folder: Path, device: str) -> Any:
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from diffusers.utils import logging as diffusers_logging
    from transformers import CLIPTextModel

    diffusers_logging.disable_progress_bar()
    index = json.loads((folder / PIPELINE).read_bytes())
    if index.get("_class_name") not in CLASSES:
        raise UnusableWeightsError(
            f"the pipeline is a {index.get('_class_name')!r}: only {', '.join(CLASSES)} is served"
        )
    # Nothing in the folder may run, and nothing may be fetched from elsewhere.
    safe: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=dtype, **safe)
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=dtype, **safe)
    text_encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=dtype, **safe)
    for part in (unet, vae, text_encoder):
        part.requires_grad_(requires_grad=False).eval().to(device)
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=_tokenizer(folder),
        unet=unet,
        scheduler=_scheduler(folder, index.get("scheduler")),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _tokenizer(folder: Path) -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", local_files_only=True)


def _scheduler(folder: Path, entry: Any) -> Any:
    """Raises UnusableWeightsError for one that is not listed."""
    import diffusers

    name = entry[1] if isinstance(entry, list) and len(entry) > 1 else entry
    if name not in SCHEDULERS:
        raise UnusableWeightsError(f"the scheduler is {name!r}: it must be one of {', '.join(SCHEDULERS)}")
    return getattr(diffusers, name).from_pretrained(folder, subfolder="scheduler", local_files_only=True)


def _canvas(pipe: Any) -> Canvas:
    scale, depth = pipe.vae_scale_factor, len(pipe.unet.config.block_out_channels) - 1
    unit = math.lcm(LATENT_UNIT, scale)
    native = pipe.unet.config.sample_size * scale // unit * unit
    # The schedulers' own limit is that of training, at which some of them miscount.
    fewest, most = _fewest_steps(pipe.scheduler), min(MAX_STEPS, pipe.scheduler.config.num_train_timesteps // 2)
    if most < fewest:
        raise UnusableWeightsError(f"num_train_timesteps of its scheduler leaves {most} steps: too few to draw with")
    return Canvas(
        native=native,
        unit=unit,
        # Below it nothing would be left at the UNet's bottom.
        least=math.ceil(scale * 2**depth / unit) * unit,
        most=2 * native,
        fewest_steps=fewest,
        most_steps=most,
        prompt_tokens=pipe.tokenizer.model_max_length,
    )


def _fewest_steps(scheduler: Any) -> int:
    """Some methods need a few to begin with. Raises ValueError."""
    for steps in range(1, 10):
        with suppress(ValueError, IndexError):
            scheduler.set_timesteps(steps)
            return steps
    raise ValueError(f"the {type(scheduler).__name__} takes no number of steps")
