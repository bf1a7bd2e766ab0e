"""`python -m services.trainer.import_gguf GGUF FOLDER`: a quantised GGUF file becomes a folder of safetensors.

Weights are dequantised to float32, so that training and serving start from exactly the same numbers whatever each of
them casts to afterwards. The tokenizer comes from the same file, chat template included.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig


def convert(gguf: Path, folder: Path) -> None:
    """Write config, generation config, tokenizer and `model.safetensors` into the folder."""
    source, file = str(gguf.parent), gguf.name
    model = AutoModelForCausalLM.from_pretrained(
        source, gguf_file=file, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=file)
    # The shape is all that remains of the quantised file: a config that still named it would be loaded as quantised.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for written in folder.iterdir():
        # Services may run as another user than the one who fetched the weights.
        written.chmod(0o644)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
