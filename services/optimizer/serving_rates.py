"""How fast one replica answers, how many answers it bears at once, and how long requests wait for it. Pure.

Roofline (Williams, Waterman, Patterson 2009) for both phases of an answer: reading the prompt is bound by arithmetic,
and each step that writes a token of every answer under way is bound by reading the weights once and each answer's keys
and values (Pope et al. 2022, arXiv:2211.05102). Waiting is that of an M/M/c queue (Erlang C; Kleinrock, Queueing
Systems I, 1975): Poisson arrivals, answers of varying length, as many servers as answers fit side by side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from services.optimizer import memory
from services.optimizer.throughput import BANDWIDTH_EFFICIENCY, NETWORK_EFFICIENCY, Machine

# More answers side by side than that are not planned for: each would stream at a small share of the machine's pace.
MAX_SLOTS = 64
# Waits grow without bound as a replica fills up; of four fifths and more nobody is sure to answer in time.
TARGET_UTILISATION = 0.7

# A forward pass starts some 20 kernels a layer on an accelerator, about 10 us each when nothing hides them.
KERNEL_SECONDS = 10e-6
KERNELS_PER_LAYER = 20
# A step multiplies by as many rows as answers: on a processor such thin products reach less of the arithmetic than a
# prompt's do (benchmarks/endpoint_plans measures it: SmolLM2-135M, 16 answers against 256 tokens).
STEP_SHARE_ON_PROCESSORS = 0.2
# An adapter adds to each linear layer two products and a sum; beside another adapter both also pick their rows.
ALONE_KERNELS_PER_LINEAR = 3
SHARED_KERNELS_PER_LINEAR = 8

# A long prompt is read in pieces of so many tokens (SSKAI_PREFILL_CHUNK_TOKENS), each with about 16 values of the
# hidden size at once: three of the wider feed-forward part and four of attention.
PREFILL_TOKENS = 256
PREFILL_VALUES = 16
# Weights are published in two bytes a parameter.
STORED_BYTES_PER_PARAMETER = 2
# From the file to where it computes: 1.5 s for the 0.54 GB of SmolLM2-135M on two busy cores (docs/benchmarks.md).
LOAD_BYTES_PER_SECOND = 0.36e9

COMPANY_ROUNDS = 4
BEARABLE_ROUNDS = 40


@dataclass(frozen=True, slots=True)
class ServingProfile:
    """What `serving_profile.py` counted. Bytes are those of float32."""

    parameters: int
    layers: int
    hidden_size: int
    vocabulary: int
    context_length: int  # 0: unknown
    kv_bytes_per_token: float
    flops_per_token: float
    attention_flops_per_pair: float
    linear_layers: int  # that an adapter stands beside
    adapter_parameters_per_rank: int


@dataclass(frozen=True, slots=True)
class Shape:
    """One request in the mean, and what stands beside the weights for it."""

    input_tokens: float
    output_tokens: float
    adapter_rank: int = 0  # 0: the base itself
    shared: bool = False  # others use other adapters in the same steps


@dataclass(frozen=True, slots=True)
class Wishes:
    """What every answer must keep; None: no wish."""

    tokens_per_second: float | None = None
    p95_latency_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Replica:
    """One machine with the model in memory. A step writes one token of each answer under way."""

    slots: int  # answers at once
    output_tokens: float
    prefill_seconds: float
    step_seconds_fixed: float  # weights are read once for all
    step_seconds_per_answer: float  # and each answer's keys and values
    compute_seconds_per_answer: float
    launch_seconds: float
    load_seconds: float  # download, and from the file into memory

    def step_seconds(self, answers: float) -> float:
        return max(
            self.step_seconds_fixed + answers * self.step_seconds_per_answer,
            answers * self.compute_seconds_per_answer,
            self.launch_seconds,
        )

    def stream_seconds(self, answers: float) -> float:
        """From an answer's first token to its last, beside so many (itself included) whose prompts are read between."""
        return (answers - 1) * self.prefill_seconds + self.output_tokens * self.step_seconds(answers)

    def service_seconds(self, answers: float) -> float:
        return self.prefill_seconds + self.stream_seconds(answers)

    @property
    def requests_per_second(self) -> float:
        """With every slot taken all the time."""
        return self.slots / self.service_seconds(self.slots)

    def company(self, requests_per_second: float) -> float:
        """Answers under way that a request finds, itself included.

        Arrivals see the mean (PASTA, Wolff 1982), which is rate x service time (Little), which grows with the company.
        Counted down from a full replica, so that each round is still an upper bound.
        """
        answers = float(self.slots)
        for _ in range(COMPANY_ROUNDS):
            answers = min(1 + requests_per_second * self.service_seconds(answers), float(self.slots))
        return answers

    def tokens_per_second(self, requests_per_second: float) -> float:
        """Of one stream under this load."""
        return self.output_tokens / self.stream_seconds(self.company(requests_per_second))

    def latency_seconds(self, requests_per_second: float, tail: float) -> float:
        """Of an answer of the mean length, exceeded by this share of the requests; infinite beyond what it bears."""
        full = self.service_seconds(self.slots)
        load = requests_per_second * full
        if load >= self.slots:
            return math.inf
        waiting = erlang_c(self.slots, load)
        wait = math.log(waiting / tail) * full / (self.slots - load) if waiting > tail else 0.0
        return wait + self.service_seconds(self.company(requests_per_second))

    def keeps(self, wishes: Wishes, requests_per_second: float, tail: float) -> bool:
        pace, latency = wishes.tokens_per_second, wishes.p95_latency_seconds
        return (pace is None or self.tokens_per_second(requests_per_second) >= pace) and (
            latency is None or self.latency_seconds(requests_per_second, tail) <= latency
        )

    def bearable_per_second(self, wishes: Wishes, tail: float) -> float:
        """The most requests that it answers as wished, at no more than the target utilisation.

        Wishes that not even a replica with a single answer keeps do not count: more replicas would not help.
        """
        most = TARGET_UTILISATION * self.requests_per_second
        if not self.keeps(wishes, 0.0, tail) or self.keeps(wishes, most, tail):
            return most
        # Never zero: a wish that only an idle replica keeps asks for more replicas than anybody has.
        low = most / 2.0**BEARABLE_ROUNDS
        for _ in range(BEARABLE_ROUNDS):
            middle = (low + most) / 2
            low, most = (middle, most) if self.keeps(wishes, middle, tail) else (low, middle)
        return low


# Reading a prompt is a forward pass over frozen weights, as most of training an adapter is.
AS_IN = "lora"


def replica(profile: ServingProfile, machine: Machine, shape: Shape) -> Replica | None:
    """The model on this machine type, on one of its accelerators; None: not even one answer fits into the memory."""
    each = bytes_per_answer(profile, machine, shape)
    room = memory.usable_bytes(machine) - fixed_bytes(profile, machine, shape)
    slots = min(int(max(room, 0) // each), MAX_SLOTS)
    if slots == 0:
        return None
    bandwidth = machine.bandwidth_bytes_per_second * BANDWIDTH_EFFICIENCY
    flops = machine.peak_flops_per_second * machine.efficiency[AS_IN]
    width = machine.weight_bytes_per_parameter
    adapter_parameters = shape.adapter_rank * profile.adapter_parameters_per_rank
    weight_seconds = (profile.parameters + adapter_parameters * (2 if shape.shared else 1)) * width / bandwidth
    flops_per_token = profile.flops_per_token + 2 * adapter_parameters
    launch_seconds = _kernels(profile, shape) * KERNEL_SECONDS if machine.accelerator_name else 0.0
    prompt, cached = shape.input_tokens, shape.input_tokens + shape.output_tokens / 2
    prompt_flops = prompt * flops_per_token + prompt**2 * profile.attention_flops_per_pair
    step_flops = flops_per_token + cached * profile.attention_flops_per_pair
    network = machine.network_mbps * 1e6 / 8 * NETWORK_EFFICIENCY
    return Replica(
        slots=slots,
        output_tokens=shape.output_tokens,
        prefill_seconds=max(prompt_flops / flops, weight_seconds, launch_seconds),
        step_seconds_fixed=weight_seconds,
        step_seconds_per_answer=cached * profile.kv_bytes_per_token * width / 4 / bandwidth,
        compute_seconds_per_answer=step_flops / flops / (1.0 if machine.accelerator_name else STEP_SHARE_ON_PROCESSORS),
        launch_seconds=launch_seconds,
        load_seconds=profile.parameters * (STORED_BYTES_PER_PARAMETER / network + width / LOAD_BYTES_PER_SECOND),
    )


def fixed_bytes(profile: ServingProfile, machine: Machine, shape: Shape) -> float:
    """Weights, adapter, runtime, and what reading a piece of a prompt takes."""
    parameters = profile.parameters + shape.adapter_rank * profile.adapter_parameters_per_rank
    values = parameters + PREFILL_TOKENS * PREFILL_VALUES * profile.hidden_size
    return values * machine.weight_bytes_per_parameter + memory.RUNTIME_BYTES


def bytes_per_answer(profile: ServingProfile, machine: Machine, shape: Shape) -> float:
    """Keys and values at an answer's end, and its row of float32 logits."""
    tokens = shape.input_tokens + shape.output_tokens
    return tokens * profile.kv_bytes_per_token * machine.weight_bytes_per_parameter / 4 + 4 * profile.vocabulary


def erlang_c(servers: int, load: float) -> float:
    """The share of requests that wait, for `load` = arrival rate x service time below `servers`.

    By the recursion of Erlang B, which cannot overflow: B(k) = load B(k-1) / (k + load B(k-1)).
    """
    blocked = 1.0
    for k in range(1, servers + 1):
        blocked = load * blocked / (k + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


def _kernels(profile: ServingProfile, shape: Shape) -> int:
    beside = SHARED_KERNELS_PER_LINEAR if shape.shared else ALONE_KERNELS_PER_LINEAR
    return profile.layers * KERNELS_PER_LAYER + (profile.linear_layers * beside if shape.adapter_rank else 0)
