"""Text-to-image models of diffusers as a task: an adapter on the attention of a UNet learns to undo noise.

diffusers is imported here alone, so that no other job waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file

from services.trainer import pictures, products
from services.trainer.comparison import NotComparableError
from services.trainer.domain import Recipe, TrainingFailedError
from services.trainer.finetune import Base
from services.trainer.pictures import DescribedPicture
from services.trainer.randomness import Tensors, seed_all
from services.trainer.results import DIFFUSERS_WEIGHTS
from services.trainer.weights import Weights

PREFIX = "unet."  # diffusers', before a tensor's name in the UNet
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # what diffusers' own LoRA script adapts


@dataclass(frozen=True, slots=True)
class Parts:
    """What of a pipeline does not learn."""

    vae: Any
    text_encoder: Any
    tokenizer: Any
    scheduler: Any


def load_base(folder: Path, device: torch.device, *, method: str = "lora") -> Base:
    """A folder like Stable Diffusion's: `unet`, `vae`, `text_encoder`, `tokenizer`, `scheduler`; its UNet is the model
    and `tokenizer` all the rest. float32 on a CPU, bfloat16 on a GPU. Raises TrainingFailedError("user-error")."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    if method not in ("", "lora"):
        raise TrainingFailedError("user-error", f"model.method: pictures are learnt by lora, not by {method}")
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    local: dict[str, Any] = {"local_files_only": True}
    weights: dict[str, Any] = {"use_safetensors": True, **local}
    try:
        unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=dtype, **weights)
        vae = AutoencoderKL.from_pretrained(folder, subfolder="vae", torch_dtype=dtype, **weights)
        text_encoder = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=dtype, **weights)
        tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", **local)
        scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler", **local)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingFailedError("user-error", f"model: {folder.name} cannot be loaded: {error}") from error
    if scheduler.config.prediction_type not in ("epsilon", "v_prediction"):
        raise TrainingFailedError(
            "user-error",
            f"model: its scheduler predicts {scheduler.config.prediction_type!r}; epsilon and v_prediction are known",
        )
    for part in (unet, vae, text_encoder):
        part.requires_grad_(requires_grad=False).eval().to(device)
    return Base(unet, Parts(vae, text_encoder, tokenizer, scheduler), folder, device, 0)


class TextToImage:
    """Predicts the noise that was put over a picture (Ho et al. 2020, equation 14), or its velocity (Salimans and Ho
    2022), from the text.

    All draws are made on the CPU, so they are the same on every device. A held-out picture always gets the same noise:
    evaluations differ by what was learnt, not by luck.
    """

    def __init__(
        self, base: Base, recipe: Recipe, training: Sequence[DescribedPicture], held_out: Sequence[DescribedPicture]
    ) -> None:
        self.training, self.held_out = training, held_out
        self.model = base.model
        self._parts: Parts = base.tokenizer
        self._device = base.device
        self._seed = recipe.seed
        seed_all(recipe.seed)
        config = LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            use_dora=recipe.dora,
            use_rslora=recipe.rslora,
            target_modules=list(recipe.target_modules or ATTENTION),
            init_lora_weights="gaussian",
        )
        self.model.add_adapter(config)
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        if recipe.gradient_checkpointing:
            self.model.enable_gradient_checkpointing()
        products.quicken(self.model)
        self.weights: Weights = PictureWeights(self.model, base.device)

    def loss(self, samples: Sequence[DescribedPicture]) -> torch.Tensor:
        """Summed over the pictures: each one's mean squared error."""
        scheduler, steps = self._parts.scheduler, self._parts.scheduler.config.num_train_timesteps
        generators = [self._generator(sample) for sample in samples]
        with torch.no_grad():
            spread = self._parts.vae.encode(self._pixels(samples)).latent_dist
            latents = spread.mean.float() + spread.std.float() * self._noise(spread.mean.shape, generators)
            latents = latents * self._parts.vae.config.scaling_factor
            told = self._parts.text_encoder(self._tokens(samples))[0]
        noise = self._noise(latents.shape, generators)
        draws = [torch.randint(0, steps, (1,), generator=generator) for generator in generators]
        timesteps = torch.cat(draws).to(self._device)
        noisy = scheduler.add_noise(latents, noise, timesteps)
        velocity = scheduler.config.prediction_type == "v_prediction"
        expected = scheduler.get_velocity(latents, noise, timesteps) if velocity else noise
        predicted = self.model(noisy.to(told.dtype), timesteps, told, return_dict=False)[0]
        return ((predicted.float() - expected) ** 2).mean(dim=(1, 2, 3)).sum()

    def targets(self, samples: Sequence[DescribedPicture]) -> int:
        return len(samples)

    def tokens(self, samples: Sequence[DescribedPicture]) -> int:
        """Pictures: there is nothing smaller to count."""
        return len(samples)

    def names(self, samples: Sequence[DescribedPicture]) -> str:
        return pictures.named(samples)

    def _generator(self, sample: DescribedPicture) -> torch.Generator | None:
        """None: the one that a checkpoint keeps."""
        if self.model.training:
            return None
        return torch.Generator().manual_seed((self._seed * 1_000_003 + sample.number) % 2**63)

    def _noise(self, shape: Sequence[int], generators: Sequence[torch.Generator | None]) -> torch.Tensor:
        return torch.stack([torch.randn(shape[1:], generator=one) for one in generators]).to(self._device)

    def _tokens(self, samples: Sequence[DescribedPicture]) -> torch.Tensor:
        tokenizer = self._parts.tokenizer
        encoded = tokenizer(
            [sample.text for sample in samples],
            max_length=tokenizer.model_max_length,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        )
        tokens: torch.Tensor = encoded.input_ids.to(self._device)
        return tokens

    def _pixels(self, samples: Sequence[DescribedPicture]) -> torch.Tensor:
        """(pictures, 3, side, side) from -1 to 1, in the autoencoder's type."""
        vae = self._parts.vae
        side = self.model.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1)
        arrays = np.stack([_square(sample, side) for sample in samples])
        pixels = torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 127.5 - 1
        return pixels.to(self._device, vae.dtype)


def _square(sample: DescribedPicture, side: int) -> NDArray[np.uint8]:
    """uint8 (side, side, 3): the middle of the picture, scaled."""
    from PIL import Image, ImageOps

    fitted = ImageOps.fit(pictures.decoded(sample, side), (side, side), Image.Resampling.BICUBIC)
    return np.array(fitted, dtype=np.uint8)


class PictureWeights:
    """An adapter on a UNet, float32, under diffusers' names."""

    def __init__(self, model: Any, device: torch.device) -> None:
        self._model = model
        self._device = device

    def tensors(self) -> Mapping[str, Tensors]:
        named = get_peft_model_state_dict(self._model)
        return {DIFFUSERS_WEIGHTS: {PREFIX + name: it.detach().float().contiguous() for name, it in named.items()}}

    def texts(self) -> Mapping[str, bytes]:
        return {}

    def load(self, folder: Path) -> None:
        saved = load_file(folder / DIFFUSERS_WEIGHTS, device=str(self._device))
        set_peft_model_state_dict(self._model, {name.removeprefix(PREFIX): it for name, it in saved.items()})

    def write(self, folder: Path) -> None:
        """With the adapter's alpha, without which `load_lora_weights` takes its rank for it."""
        from diffusers import StableDiffusionPipeline
        from diffusers.utils import convert_state_dict_to_diffusers

        layers = convert_state_dict_to_diffusers(
            {
                name: it.detach().float().cpu().contiguous()
                for name, it in get_peft_model_state_dict(self._model).items()
            }
        )
        folder.mkdir(parents=True, exist_ok=True)
        config = self._model.peft_config["default"].to_dict()
        StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers, unet_lora_adapter_metadata=config)

    def take(self, folder: Path | None) -> None:
        del folder
        raise NotComparableError("a loss says little of pictures: nothing is compared by it")


def versions() -> dict[str, str]:
    """What a checkpoint was written by, beside what `finetune.versions` tells."""
    import diffusers

    return {"diffusers": diffusers.__version__}
