"""How `vllm serve` is started: from the model, the machine and the adapters to flags, each with its reason. Pure.

The names are those of vLLM 0.33's documentation (engine arguments, LoRA adapters, structured outputs).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GIB = 1024**3
# vLLM's own choices for --max-lora-rank.
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# Outside of what vLLM counts: the CUDA context, NCCL's buffers, fragments.
OUTSIDE_BYTES = 2 * GIB
# Activations and CUDA graphs, of vLLM's profile run: the rest of its share is keys and values.
ACTIVATION_BYTES = 2 * GIB
MOST_SEQUENCES = 256
LEAST_CONTEXT_TOKENS = 1024
ORDINARY_TOKENS = 1024  # of one sequence, prompt and answer, for counting how many fit
BFLOAT16_SINCE = 8.0  # compute capability: Ampere


class DoesNotFitError(ValueError):
    """The model and this machine do not go together; the text says what is missing."""


@dataclass(frozen=True, slots=True)
class Machine:
    """GPUs of one kind. `memory_bytes`: of each. `capability`: CUDA's compute capability."""

    gpus: int
    memory_bytes: int
    capability: float


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a config.json decides about memory. `weight_bytes`: in 16 bits, whatever they are stored in."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    context_tokens: int
    weight_bytes: int

    @property
    def lora_width(self) -> int:
        """In and out of all linear layers of a layer, summed: an adapter has rank times so many numbers in it."""
        attention = 2 * (self.hidden + self.heads * self.head_size) + 2 * (self.hidden + self.kv_heads * self.head_size)
        return attention + 3 * (self.hidden + self.intermediate)


@dataclass(frozen=True, slots=True)
class Flag:
    name: str
    value: str  # empty: the flag alone
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    flags: tuple[Flag, ...]
    context_tokens: int
    sequences: int

    def arguments(self) -> list[str]:
        return [word for flag in self.flags for word in ((flag.name, flag.value) if flag.value else (flag.name,))]


def shape_of(config: Mapping[str, Any], parameters: int) -> Shape:
    """Of a transformers config.json. Raises DoesNotFitError for one that is no ordinary language model's."""
    text = config.get("text_config", config)
    try:
        heads, hidden = int(text["num_attention_heads"]), int(text["hidden_size"])
        return Shape(
            layers=int(text["num_hidden_layers"]),
            hidden=hidden,
            intermediate=int(text.get("intermediate_size") or 4 * hidden),
            heads=heads,
            kv_heads=int(text.get("num_key_value_heads") or heads),
            head_size=int(text.get("head_dim") or hidden // heads),
            context_tokens=int(text["max_position_embeddings"]),
            weight_bytes=2 * parameters,
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise DoesNotFitError(f"config.json is no language model's that vLLM is planned for: {error!r}") from error


def plan(shape: Shape, machine: Machine, name: str, adapter_ranks: Sequence[int] = ()) -> Plan:
    """Raises DoesNotFitError."""
    parallel = max(count for count in range(1, machine.gpus + 1) if shape.heads % count == 0)
    share = math.floor(100 * (1 - OUTSIDE_BYTES / machine.memory_bytes)) / 100
    adapters = len(adapter_ranks) + 1 if adapter_ranks else 0
    rank = _rank(max(adapter_ranks)) if adapter_ranks else 0
    adapter_bytes = adapters * rank * shape.lora_width * shape.layers * 2
    room = share * machine.memory_bytes - ACTIVATION_BYTES - (shape.weight_bytes + adapter_bytes) / parallel
    # Heads that cannot be divided among the GPUs are kept by each of them.
    token_bytes = 2 * shape.layers * max(1, shape.kv_heads // parallel) * shape.head_size * 2
    tokens = int(room // token_bytes)
    context = min(shape.context_tokens, tokens)
    if context < min(LEAST_CONTEXT_TOKENS, shape.context_tokens):
        missing = (min(LEAST_CONTEXT_TOKENS, shape.context_tokens) - tokens) * token_bytes
        raise DoesNotFitError(
            f"{parallel} x {machine.memory_bytes / GIB:.0f} GiB are {missing / GIB:.1f} GiB a GPU too little for "
            f"{shape.weight_bytes / GIB:.1f} GiB of weights and {LEAST_CONTEXT_TOKENS} tokens: "
            "choose a machine with more GPU memory"
        )
    sequences = max(1, min(MOST_SEQUENCES, tokens // min(ORDINARY_TOKENS, context)))
    half = "bfloat16" if machine.capability >= BFLOAT16_SINCE else "float16"
    flags = [
        Flag("--served-model-name", name, "requests name what the service named"),
        Flag(
            "--dtype", half, f"compute capability {machine.capability} {'has' if half[0] == 'b' else 'lacks'} bfloat16"
        ),
        Flag(
            "--tensor-parallel-size", str(parallel), f"the most of {machine.gpus} GPUs that divide {shape.heads} heads"
        ),
        Flag(
            "--gpu-memory-utilization",
            f"{share:.2f}",
            f"all but {OUTSIDE_BYTES // GIB} GiB for what vLLM does not count",
        ),
        Flag(
            "--max-model-len",
            str(context),
            "the model's own context" if context == shape.context_tokens else f"keys and values of {tokens} tokens fit",
        ),
        Flag("--max-num-seqs", str(sequences), f"as many as {tokens} tokens are enough for, at most {MOST_SEQUENCES}"),
        Flag("--enable-prefix-caching", "", "prompts that begin alike are read once"),
        Flag("--enable-prompt-tokens-details", "", "usage tells the cached tokens of a prompt"),
        Flag("--generation-config", "vllm", "sampling is what the request says, not what the model's folder prefers"),
        Flag("--logprobs-mode", "raw_logprobs", "the model's own, before temperature and penalties"),
        Flag("--max-logprobs", "20", "as many as the API lets one ask for"),
        Flag(
            "--structured-outputs-config",
            '{"backend":"guidance","disable_any_whitespace":true}',
            "the library of the embedded engine, which has checked the schema, and its rule about spaces",
        ),
    ]
    if adapters:
        flags += [
            Flag("--enable-lora", "", "the endpoint is an adapter on its base"),
            Flag("--max-loras", str(adapters), "one more than there are: a new version is tried beside the old one"),
            Flag("--max-lora-rank", str(rank), f"the least of vLLM's ranks that holds {max(adapter_ranks)}"),
        ]
    return Plan(tuple(flags), context, sequences)


def _rank(rank: int) -> int:
    found = next((allowed for allowed in RANKS if allowed >= rank), None)
    if found is None:
        raise DoesNotFitError(f"the adapter's rank {rank} is over vLLM's {RANKS[-1]}: train it with a smaller one")
    return found


def machine_of(listing: str) -> Machine:
    """From `nvidia-smi --query-gpu=memory.total,compute_cap --format=csv,noheader,nounits` (MiB and a version)."""
    rows = [row.split(",") for row in listing.splitlines() if row.strip()]
    try:
        memory = [int(row[0]) * 1024**2 for row in rows]
        capability = [float(row[1]) for row in rows]
        return Machine(len(rows), min(memory), min(capability))
    except (ValueError, IndexError) as error:
        raise DoesNotFitError(f"nvidia-smi names no GPU: {listing.strip()[:200]!r}") from error
