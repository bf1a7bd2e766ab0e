"""One training process, measured: `python -m benchmarks.optimizer.memory_probe CASE.json` prints its peak in bytes.

It allocates as pods do, with tcmalloc where that is installed. LoRA runs the trainer's own step; other methods run the
plain loop that they will be (AdamW, one tensor at a time). The base process has every library loaded and has trained a
model of two layers; what comes on top of it is the peak.
"""

from __future__ import annotations

import gc
import json
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from services.trainer import finetune
from services.trainer.datasets import Row
from services.trainer.domain import Recipe
from services.trainer.training import Training

STEPS = 3
TINY = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 256}


def main() -> None:
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    case = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(case["threads"])
    _train({**case, "config": {**case["config"], **TINY, "num_attention_heads": 4, "num_key_value_heads": 4}})
    gc.collect()
    base = _resident("VmRSS")
    print(_train(case) - base)


def _train(case: dict[str, Any]) -> int:
    """Peak resident bytes from the loaded model on."""
    config = dict(case["config"])
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(config.pop("model_type"), **config), dtype=torch.float32
    )
    model.config.use_cache = False
    step = _lora_step(model, case) if case["method"] == "lora" else _full_step(model, case)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    for _ in range(STEPS):
        step()
    return _resident("VmHWM")


def _lora_step(model: Any, case: dict[str, Any]) -> Any:
    recipe = Recipe(
        total_steps=STEPS,
        batch_size=case["batch"],
        micro_batch_size=case["micro_batch"],
        sequence_length=case["length"],
        learning_rate=1e-4,
        warmup_steps=1,
        checkpoint_interval_steps=STEPS,
        keep_checkpoints=1,
        evaluation_rows=1,
        seed=0,
        rank=case["rank"],
        alpha=2 * case["rank"],
        gradient_checkpointing=case["checkpointing"],
    )
    rows = [Row(n, tokens, np.ones(len(tokens), dtype=bool)) for n, tokens in enumerate(_tokens(case))]
    base = finetune.Base.without_tokenizer(model)
    training = Training(finetune.LanguageModel(base, recipe, "model", rows, []), recipe, base.device)
    return lambda: training.learn(range(len(rows)), 1e-4, nullcontext)


def _full_step(model: Any, case: dict[str, Any]) -> Any:
    if case["checkpointing"]:
        model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    tokens = torch.from_numpy(np.stack(_tokens(case)).astype(np.int64))

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        for micro in tokens.split(case["micro_batch"]):
            logits = model(input_ids=micro, attention_mask=torch.ones_like(micro)).logits
            torch.nn.functional.cross_entropy(
                logits[:, :-1].float().reshape(-1, logits.shape[-1]), micro[:, 1:].reshape(-1), reduction="sum"
            ).backward()
            del logits
        optimizer.step()

    return step


def _tokens(case: dict[str, Any]) -> list[Any]:
    generator = np.random.default_rng(0)
    return [
        generator.integers(1, case["config"]["vocab_size"], case["length"], dtype=np.int32)
        for _ in range(case["batch"])
    ]


def _resident(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


if __name__ == "__main__":
    main()
