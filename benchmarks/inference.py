"""Tokens per second of the inference engine, beside transformers and peft in the same run.

`python -m benchmarks.inference [MODEL_FOLDER]` prints one JSON object. The model is a folder of safetensors (default:
the built-in SmolLM2-135M). Greedy answers of 16 tokens to eight different prompts; medians of three rounds in which all
take turns, since other programs may use the machine, too. Measured:

- `sequential`: one request after the other; `concurrent`: all eight at once, the base only; `mixed`: all eight at once,
  on the base and two rank-8 LoRA adapters by turns.
- `transformers_sequential`: the peer, `model.generate` for one prompt after the other.
- `peft_mixed_step_seconds`, `our_mixed_step_seconds`: one decoding step of the same eight sequences on the base and
  both adapters, by peft's `adapter_names` and by ours; medians of steps that take turns.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, DynamicCache

from services.inference.engine import Sampling
from services.inference.lora import AdapterBank
from services.inference.padded import PaddedBatch, prefill
from services.inference.runner import Limits
from services.inference.settings import Settings
from services.inference.transformers_engine import TransformersEngine

SUBJECTS = ("France", "Spain", "Italy", "Japan", "Peru", "Kenya", "Norway", "Chile")
NEW_TOKENS = 16
ROUNDS = 3
STEPS = 10
ADAPTERS = (None, "first", "second")


def make_adapters(model_folder: Path, folder: Path) -> dict[str, Path]:
    """Two LoRA adapters with random weights on all linear layers."""
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(model_folder)
        config = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(model, config).save_pretrained(folder / name)
    return {name: folder / name for name in ("first", "second")}


async def tokens_per_second(
    engine: TransformersEngine, prompts: list[list[int]], *, at_once: bool, mixed: bool
) -> float:
    async def answer(number: int, prompt: list[int]) -> int:
        adapter = ADAPTERS[number % 3] if mixed else None
        pieces = engine.generate("base", adapter, prompt, Sampling(NEW_TOKENS, temperature=0)).pieces()
        return [piece async for piece in pieces][-1].output_tokens

    started = time.perf_counter()
    if at_once:
        counts = await asyncio.gather(*(answer(number, prompt) for number, prompt in enumerate(prompts)))
    else:
        counts = [await answer(number, prompt) for number, prompt in enumerate(prompts)]
    return sum(counts) / (time.perf_counter() - started)


def peer_tokens_per_second(model: Any, prompts: list[list[int]]) -> float:
    started, count = time.perf_counter(), 0
    for prompt in prompts:
        output = model.generate(torch.tensor([prompt]), max_new_tokens=NEW_TOKENS, do_sample=False)
        count += output.shape[1] - len(prompt)
    return float(count / (time.perf_counter() - started))


def seconds(step: Callable[[], object]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def step_seconds(model_folder: Path, adapters: dict[str, Path], prompts: list[list[int]]) -> tuple[float, float]:
    """One mixed decoding step: by peft, and by ours."""
    names = [ADAPTERS[number % 3] for number in range(len(prompts))]
    with torch.inference_mode():
        model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
        bank = AdapterBank(model)
        loaded = {name: bank.read(folder) for name, folder in adapters.items()}

        def filled(forward: Any) -> PaddedBatch:
            batch = PaddedBatch()
            for prompt in prompts:
                cache = DynamicCache()
                prefill(forward, cache, prompt, 0)
                batch.add(cache, len(prompt))
            return batch

        batch = filled(model)
        bank.select([loaded[name] if name else None for name in names])
        tuned = PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(model_folder), adapters["first"], adapter_name="first"
        )
        tuned.load_adapter(adapters["second"], adapter_name="second")
        tuned.eval()
        with tuned.disable_adapter():
            other = filled(tuned)

        class Mixed:
            device = model.device

            def __call__(self, **arguments: Any) -> Any:
                return tuned(**arguments, adapter_names=[name or "__base__" for name in names])

        tokens = [1] * len(prompts)
        pairs = [
            (seconds(lambda: other.step(Mixed(), tokens)), seconds(lambda: batch.step(model, tokens)))
            for _ in range(STEPS)
        ]
        return statistics.median(peft for peft, _ in pairs), statistics.median(ours for _, ours in pairs)


async def measure(model_folder: Path) -> dict[str, Any]:
    threads = Settings().threads
    engine = TransformersEngine(limits=Limits(8, 8, 256), max_context_tokens=4096, threads=threads, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        adapters = make_adapters(model_folder, Path(folder))
        started = time.perf_counter()
        engine.load_base("base", model_folder)
        load_seconds = time.perf_counter() - started
        started = time.perf_counter()
        for name, path in adapters.items():
            engine.attach_adapter("base", name, path)
        attach_seconds = (time.perf_counter() - started) / len(adapters)
        prompts = [
            engine.encode_chat("base", [{"role": "user", "content": f"Tell me about {subject}, please."}])
            for subject in SUBJECTS
        ]
        model = AutoModelForCausalLM.from_pretrained(model_folder).eval()
        rounds = [
            {
                "sequential": await tokens_per_second(engine, prompts, at_once=False, mixed=False),
                "transformers_sequential": peer_tokens_per_second(model, prompts),
                "concurrent": await tokens_per_second(engine, prompts, at_once=True, mixed=False),
                "mixed": await tokens_per_second(engine, prompts, at_once=True, mixed=True),
            }
            for _ in range(ROUNDS)
        ]
        engine.close()
        figures = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
        peft_step, our_step = step_seconds(model_folder, adapters, prompts)
    return {
        "benchmark": "inference",
        "model": model_folder.name,
        "threads": threads,
        "load_base_seconds": round(load_seconds, 3),
        "attach_adapter_seconds": round(attach_seconds, 3),
        "tokens_per_second": {name: round(value, 1) for name, value in figures.items()},
        "concurrent_to_sequential": round(figures["concurrent"] / figures["sequential"], 2),
        "our_mixed_step_seconds": round(our_step, 4),
        "peft_mixed_step_seconds": round(peft_step, 4),
    }


def main() -> None:
    default = Path(os.environ.get("SSKAI_MODELS_DIR", "/var/cache/sskai/models")) / "smollm2-135m-instruct"
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    print(json.dumps(asyncio.run(measure(folder))))


if __name__ == "__main__":
    main()
