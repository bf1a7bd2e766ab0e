"""A text-to-image pipeline small enough for a test: random weights, a real diffusers folder, and a dataset for it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np

from services.gateway import pipelines

SIDE = 32  # pixels


def build(folder: Path, *, seed: int = 0, prediction_type: str = "epsilon") -> Path:
    """Write the pipeline to `folder` and return it. Same seed, same weights."""
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = [chr(code) for code in range(97, 123)]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[], model_max_length=16)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            block_out_channels=(8, 16),
            norm_num_groups=4,
            layers_per_block=1,
            sample_size=SIDE // 2,
            in_channels=4,
            out_channels=4,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=4,
        )
        vae = AutoencoderKL(
            block_out_channels=(8, 8),
            norm_num_groups=4,
            down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
            up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
            latent_channels=4,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=16,
                bos_token_id=len(words) - 2,
                eos_token_id=len(words) - 1,
                pad_token_id=len(words) - 1,
            )
        )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDPMScheduler(
            num_train_timesteps=100, prediction_type=prediction_type, steps_offset=1, clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder


def config(folder: Path) -> str:
    """The configuration of a pipeline, as it travels with a job."""
    return pipelines.read_config(lambda name: dict(json.loads((folder / name).read_text())))


def dataset(count: int = 12, *, top: str = "") -> bytes:
    """A zip of striped pictures and their texts."""
    from PIL import Image

    out, lines = io.BytesIO(), []
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(count):
            pixels = np.zeros((SIDE + 8, SIDE, 3), np.uint8)
            pixels[:, :: number % 4 + 2] = (255, 20 * number, 0)
            picture = io.BytesIO()
            Image.fromarray(pixels).save(picture, "PNG")
            archive.writestr(f"{top}pictures/{number}.png", picture.getvalue())
            lines.append(json.dumps({"file_name": f"pictures/{number}.png", "text": f"stripes {number % 4}"}))
        archive.writestr(f"{top}metadata.jsonl", "\n".join(lines))
    return out.getvalue()
