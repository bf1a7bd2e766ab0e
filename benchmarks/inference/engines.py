"""The inference engine beside its peers on the same weights, in the same run.

Greedy answers of a fixed length to prompts that share nothing, fp32, as many threads as the service takes. All take
turns in each round, since other programs may use the machine, too; medians of the rounds.

- `throughput_N`: output tokens per second of N answers asked for at once; `ttft_p95_N`: until the first of each.
- peers: transformers' `generate`, one prompt after the other (N = 1) and as one padded batch (N > 1), which knows all
  prompts beforehand; transformers' continuous batching (`generate_batch`); and, where it is installed (`pip install
  xllamacpp`), llama.cpp's server in this process with N slots, on the same weights as a GGUF file of floats.
- `adapters_mixed`: throughput at the most streams with the adapters by turns, over that of one adapter for all.
- `hop_throughput_N`, `hop_first_N`: the same answers by a replica, a process of its own, asked through `RemoteEngine`:
  throughput over that of a direct engine, and seconds until the first token beyond it.
- `prefix`: time to the first token of a prompt of which all but the end was asked before, over that of a new one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

from benchmarks.figures import Figure, figure
from services.inference.engine import AnsweringEngine, Sampling
from services.inference.remote_engine import RemoteEngine
from services.inference.runner import Limits
from services.inference.settings import Settings
from services.inference.transformers_engine import TransformersEngine
from services.trainer import export_gguf
from services.trainer.exports import NotExportableError
from sskai.testing import wait_for
from tests.inference.replicas import Home, ReplicaProcess

Prompts = list[list[int]]
CONTINUOUS_BLOCK_TOKENS = 32
PARTS = ("throughput", "adapters", "prefix", "hop")


@dataclass(frozen=True, slots=True)
class Load:
    """What one of them did with some prompts at once. `first_seconds`: of each answer; empty: it does not stream."""

    tokens_per_second: float
    first_seconds: tuple[float, ...] = ()


def make_adapters(model_folder: Path, folder: Path, count: int) -> dict[str, Path]:
    """Rank-8 LoRA adapters with random weights on all linear layers."""
    made = {}
    for seed in range(count):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(model_folder)
        config = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
        made[f"adapter-{seed}"] = folder / str(seed)
        get_peft_model(model, config).save_pretrained(folder / str(seed))
    return made


def new_prompts(count: int, length: int, vocabulary: int, seed: int) -> Prompts:
    dice = torch.Generator().manual_seed(seed)
    prompts: Prompts = torch.randint(100, vocabulary, (count, length), generator=dice).tolist()
    return prompts


async def ours(
    engine: AnsweringEngine,
    prompts: Prompts,
    output: int,
    adapters: Sequence[str | None] = (None,),
    base: str = "base",
) -> Load:
    """All at once; the adapters by turns."""
    how = Sampling(output, temperature=0, min_tokens=output, top_logprobs=0)
    started = time.perf_counter()

    async def answer(number: int, prompt: list[int]) -> float:
        (generation,) = engine.generate(base, adapters[number % len(adapters)], prompt, how)
        first = 0.0
        async for _ in generation.pieces():
            first = first or time.perf_counter() - started
        return first

    first = await asyncio.gather(*(answer(number, prompt) for number, prompt in enumerate(prompts)))
    return Load(len(prompts) * output / (time.perf_counter() - started), tuple(first))


def transformers_peer(model: Any, prompts: Prompts, output: int) -> Load:
    started = time.perf_counter()
    with torch.inference_mode():
        given = torch.tensor(prompts)
        mask = torch.ones_like(given)
        model.generate(given, attention_mask=mask, min_new_tokens=output, max_new_tokens=output, do_sample=False)
    return Load(len(prompts) * output / (time.perf_counter() - started))


def continuous_peer(model: Any, prompts: Prompts, output: int) -> Load:
    how = GenerationConfig(
        max_new_tokens=output, min_new_tokens=output, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    # Room for these prompts; by itself it takes nearly all of the machine's memory.
    blocks = len(prompts) * ((len(prompts[0]) + output) // CONTINUOUS_BLOCK_TOKENS + 2)
    room = ContinuousBatchingConfig(
        page_size=CONTINUOUS_BLOCK_TOKENS, num_blocks=blocks, max_batch_tokens=256, allow_block_sharing=False
    )
    started = time.perf_counter()
    answers = model.generate_batch(inputs=prompts, generation_config=how, continuous_batching_config=room)
    assert all(len(answer.generated_tokens) == output for answer in answers.values())
    return Load(len(prompts) * output / (time.perf_counter() - started))


class LlamaServer:
    """llama.cpp's own server, asked over HTTP as a user would; None of `start` when it is not installed."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url = server.listening_address

    @classmethod
    def start(cls, model: Path, gguf: Path, size: tuple[int, int, int]) -> LlamaServer | None:
        """`size`: slots, tokens of each, threads."""
        slots, context, threads = size
        try:
            import xllamacpp  # type: ignore[import-not-found,import-untyped,unused-ignore]

            export_gguf.write(model, gguf, model.name)
        except (ImportError, NotExportableError):
            return None
        given = xllamacpp.CommonParams()
        given.model.path = str(gguf)
        given.n_parallel, given.n_ctx = slots, slots * context
        given.cpuparams.n_threads = given.cpuparams_batch.n_threads = threads
        given.cache_type_k = given.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        return cls(xllamacpp.Server(given))

    def answer(self, prompts: Prompts, output: int) -> Load:
        def one(prompt: list[int]) -> None:
            body = {"prompt": prompt, "n_predict": output, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
            asked = urllib.request.Request(
                f"{self.url}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(asked, timeout=600) as answer:
                assert json.load(answer)["tokens_predicted"] == output

        started = time.perf_counter()
        with ThreadPoolExecutor(len(prompts)) as pool:
            list(pool.map(one, prompts))
        return Load(len(prompts) * output / (time.perf_counter() - started))


def percentile95(values: Sequence[float]) -> float:
    return sorted(values)[min(len(values) - 1, round(0.95 * (len(values) - 1)))]


async def throughputs(engine: TransformersEngine, scratch: Path, given: argparse.Namespace) -> list[Figure]:
    folder = given.model
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    vocabulary, threads = model.config.vocab_size, Settings().threads
    context = given.input + given.output + 8
    llama = LlamaServer.start(folder, scratch / "model.gguf", (max(given.streams), context, threads))
    peers: dict[str, Callable[[Prompts, int], Load]] = {
        "transformers": partial(transformers_peer, model),
        "transformers' continuous batching": partial(continuous_peer, model),
    }
    if llama is not None:
        peers["llama.cpp"] = llama.answer
    found: list[Figure] = []
    alone = 0.0
    for streams in given.streams:
        loads: dict[str, list[Load]] = {name: [] for name in ("ours", *peers)}
        for round_ in range(given.rounds):
            prompts = new_prompts(streams, given.input, vocabulary, 1000 * streams + round_)
            loads["ours"].append(await ours(engine, prompts, given.output))
            for name, peer in peers.items():
                loads[name].append(await asyncio.to_thread(peer, prompts, given.output))
        rates = {name: statistics.median(load.tokens_per_second for load in one) for name, one in loads.items()}
        best = max(peers, key=rates.__getitem__)
        mine = rates["ours"]
        told = {name: round(rate, 1) for name, rate in rates.items()}
        how = f"{given.input} tokens in, {given.output} out, fp32, {threads} threads, medians of {given.rounds}: {told}"
        found.append(figure(f"throughput_{streams}", mine, "tokens/s", rates[best], "higher", peer=best, how=how))
        first = statistics.median(percentile95(load.first_seconds) for load in loads["ours"])
        # A server that answers one after the other begins the last one when all others are done.
        sequential = 0.95 * (streams - 1) * given.output / alone if alone and streams > 1 else None
        goal = sequential / 2 if sequential else None
        found.append(figure(f"ttft_p95_{streams}", first, "s", goal, "lower", peer="one after the other", how=how))
        if streams == 1:
            alone = mine
        elif alone:
            ratio = mine / alone
            goal = 4.0 if streams >= 32 else None
            found.append(figure(f"speedup_{streams}", ratio, "times", goal, "higher", how=f"over {alone:.1f} tokens/s"))
    return found


async def adapter_cost(engine: TransformersEngine, names: list[str], given: argparse.Namespace) -> Figure:
    shares = []
    for round_ in range(given.rounds):
        prompts = new_prompts(max(given.streams), given.input, 40_000, 5_000_000 + round_)
        one = await ours(engine, prompts, given.output, names[:1])
        mixed = await ours(engine, [prompt[::-1] for prompt in prompts], given.output, names)
        shares.append(mixed.tokens_per_second / one.tokens_per_second)
    how = f"{max(given.streams)} streams, {len(names)} adapters of rank 8 by turns"
    return figure("adapters_mixed", statistics.median(shares), "of one adapter", 0.85, "higher", how=how)


async def prefix_gain(engine: TransformersEngine, given: argparse.Namespace) -> Figure:
    shares = []
    for round_ in range(given.rounds):
        (prompt,) = new_prompts(1, 4 * given.input, 40_000, 7_000_000 + round_)
        new = await ours(engine, [prompt], 1)
        again = await ours(engine, [[*prompt[:-8], *range(200, 208)]], 1)
        shares.append(again.first_seconds[0] / new.first_seconds[0])
    return figure(
        "prefix", statistics.median(shares), "of a new prompt", None, "lower", how=f"{4 * given.input} tokens"
    )


async def hop(engine: TransformersEngine, given: argparse.Namespace) -> list[Figure]:
    """The direct engine and the replica take turns, so each has the processor to itself."""
    home, vocabulary = Home(), json.loads((given.model / "config.json").read_text())["vocab_size"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            "SSKAI_MODELS_DIR": str(given.model.parent),
            "SSKAI_CACHE": folder,
            "SSKAI_THREADS": str(given.threads or Settings().threads),
            "SSKAI_MAX_CONCURRENT_SEQUENCES": str(max(given.streams)),
        }
        endpoint = {"base_uri": f"builtin://{given.model.name}"}
        replica = ReplicaProcess("replica", home, environment, Path(folder) / "log", endpoint)
        remote = RemoteEngine(home)
        try:
            await wait_for(replica.is_ready, limit_seconds=300)
            await asyncio.to_thread(remote.encode_text, "end_1", "Hello")
            found = []
            for streams in given.streams:
                shares, firsts = [], []
                for round_ in range(given.rounds):
                    prompts = new_prompts(streams, given.input, vocabulary, 9_000_000 + 1000 * streams + round_)
                    direct = await ours(engine, prompts, given.output)
                    there = await ours(remote, prompts, given.output, base="end_1")
                    shares.append(there.tokens_per_second / direct.tokens_per_second)
                    firsts.append(statistics.median(there.first_seconds) - statistics.median(direct.first_seconds))
                how = f"{given.input} tokens in, {given.output} out, medians of {given.rounds}"
                share, first = statistics.median(shares), statistics.median(firsts)
                found.append(figure(f"hop_throughput_{streams}", share, "of a direct engine", None, "higher", how=how))
                found.append(figure(f"hop_first_{streams}", first, "s", None, "lower", how=how))
            return found
        finally:
            remote.close()
            replica.kill()
            home.close()


async def figures(given: argparse.Namespace) -> list[Figure]:
    most = max(given.streams)
    limits = Limits(most, most, 256, 2**28)
    engine = TransformersEngine(
        limits=limits, max_context_tokens=4096, threads=given.threads or Settings().threads, device="cpu"
    )
    with tempfile.TemporaryDirectory() as folder:
        adapters = make_adapters(given.model, Path(folder), given.adapters)
        started = time.perf_counter()
        engine.load_base("base", given.model)
        found = [figure("load_base", time.perf_counter() - started, "s", None, "lower")]
        started = time.perf_counter()
        for name, path in adapters.items():
            engine.attach_adapter("base", name, path)
        attach = (time.perf_counter() - started) / max(1, len(adapters))
        found.append(figure("attach_adapter", attach, "s", 3.0, "lower", how="from the disk into a running base"))
        if "throughput" in given.engine_parts:
            found += await throughputs(engine, Path(folder), given)
        if adapters and "adapters" in given.engine_parts:
            found.append(await adapter_cost(engine, list(adapters), given))
        if "prefix" in given.engine_parts:
            found.append(await prefix_gain(engine, given))
        if "hop" in given.engine_parts:
            found += await hop(engine, given)
        engine.close()
    return found


def options(parser: argparse.ArgumentParser) -> None:
    default = Path(os.environ.get("SSKAI_MODELS_DIR", "/var/cache/sskai/models")) / "smollm2-135m-instruct"
    parser.add_argument("--model", type=Path, default=default)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--input", type=int, default=128)
    parser.add_argument("--output", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--engine-parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the service takes")
