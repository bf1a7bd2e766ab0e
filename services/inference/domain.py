"""What an endpoint is and may become, which adapters are served and what is sampled. No I/O."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self


class State(StrEnum):
    REQUESTED = "requested"
    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


NEXT_STATES: dict[State, frozenset[State]] = {
    State.REQUESTED: frozenset({State.LOADING, State.DELETING}),
    State.LOADING: frozenset({State.READY, State.FAILED, State.DELETING}),
    State.READY: frozenset({State.FAILED, State.DELETING}),
    State.FAILED: frozenset({State.DELETING}),
    State.DELETING: frozenset({State.DELETED}),
    State.DELETED: frozenset(),
}
# An endpoint in one of these will answer, now or soon.
ANSWERING = frozenset({State.REQUESTED, State.LOADING, State.READY})
# Requests may name these; one that failed says why.
VISIBLE = ANSWERING | {State.FAILED}


class Kind(StrEnum):
    ADAPTER = "adapter"  # stays in memory
    SERVERLESS = "serverless"  # gives its memory back when idle, and is loaded by the next request
    SPOT = "spot"  # replicas in pods of their own (replicating.py)


class FailureReason(StrEnum):
    """Why an endpoint cannot answer. `retries`: worth another try later."""

    UNSUPPORTED_KIND = "unsupported-kind"
    UNUSABLE_WEIGHTS = "unusable-weights"
    NOT_FOUND = "not-found"
    OUT_OF_MEMORY = "out-of-memory"
    MISSING_ENGINE = "missing-engine"
    NO_SANDBOX = "no-sandbox"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"

    @property
    def retries(self) -> bool:
        return self in (FailureReason.UNAVAILABLE, FailureReason.INTERNAL)

    @property
    def advice(self) -> str:
        return _ADVICE[self]


_ADVICE = {
    FailureReason.UNSUPPORTED_KIND: f"choose one of the kinds {', '.join(Kind)}",
    FailureReason.UNUSABLE_WEIGHTS: "publish the version again, as safetensors for the base it names",
    FailureReason.NOT_FOUND: "check that the base model is installed and the version's artefact was not deleted",
    FailureReason.OUT_OF_MEMORY: "delete an endpoint of another base, or give the service more memory",
    FailureReason.MISSING_ENGINE: "run replicas on GPU machines with vLLM in their image, or with the embedded engine",
    FailureReason.NO_SANDBOX: "ask your operator: users' code needs walls (docs/operations.md), and none are here",
    FailureReason.UNAVAILABLE: "the object store did not answer for too long; ask for the endpoint again when it does",
    FailureReason.INTERNAL: "ask your operator: the service's log holds the cause",
}

# 12 tries, at most 30 s apart, cover an outage of about five minutes.
MAX_LOAD_TRIES = 12
LONGEST_RETRY_SECONDS = 30.0


def retry_in_seconds(reason: FailureReason, tries: int) -> float | None:
    """When to try again after so many tries; None: the endpoint has failed."""
    if not reason.retries or tries >= MAX_LOAD_TRIES:
        return None
    return min(0.5 * 2.0 ** (tries - 1), LONGEST_RETRY_SECONDS)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A name that answers. `artifact_uri` empty: the base itself. `replicas`: how many are ready; in this process 0 or
    1, loaded or (serverless) asleep."""

    endpoint_id: str
    tenant_id: str
    name: str
    kind: str
    model_id: str
    version: int
    base_model_id: str
    base_uri: str
    artifact_uri: str
    sample_rate: float
    requested_at: datetime
    order: int = 0  # rises with each request; of several endpoints with one name, the newest answers
    state: State = State.REQUESTED
    replicas: int = 0
    tries: int = 0
    failure: str = ""
    canary_of: str = ""  # the endpoint whose new version this one serves while it is tried
    promotion_mode: str = ""  # what happens by itself with new versions (promotion.Mode); empty: nothing
    # Which job made the version, and in which trace; only where requests are answered. Empty: a base, or not told yet.
    made_by: str = ""
    made_in: str = ""

    def to(self, state: State, **changes: Any) -> Self:
        """The endpoint in its next state. Raises ValueError: `endpoint end_1: failed -> ready`."""
        if state not in NEXT_STATES[self.state]:
            raise ValueError(f"endpoint {self.endpoint_id}: {self.state} -> {state}")
        return replace(self, state=state, **changes)

    @property
    def serverless(self) -> bool:
        return self.kind == Kind.SERVERLESS

    @property
    def in_pods(self) -> bool:
        return self.kind == Kind.SPOT

    @property
    def answers(self) -> bool:
        return self.state in ANSWERING

    @property
    def told_as(self) -> str:
        """The endpoint that everybody else knows: a canary is a part of the one that it wants to become."""
        return self.canary_of or self.endpoint_id

    @property
    def weights(self) -> tuple[str, str]:
        return self.base_uri, self.artifact_uri


def kind_of(word: str) -> str:
    """An absent kind is the ordinary one. Unknown words stay as they are, to be refused by name."""
    return word or Kind.ADAPTER


def answering(endpoints: Iterable[Endpoint], tenant_id: str, name: str) -> Endpoint | None:
    """Which of a tenant's endpoints a request means: the newest ready one of that name, else the newest at all."""
    named = [
        one
        for one in endpoints
        if one.tenant_id == tenant_id and one.name == name and one.state in VISIBLE and not one.canary_of
    ]
    return max(named, key=lambda one: (one.state == State.READY, one.answers, one.order), default=None)


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """What of PEFT's `adapter_config.json` changes the numbers."""

    rank: int
    alpha: float
    rank_stabilised: bool = False
    dora: bool = False

    @property
    def scaling(self) -> float:
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)

    @classmethod
    def parse(cls, config: Any) -> Self:
        """Raises ValueError for whatever would need more than low-rank matrices beside linear layers."""
        if not isinstance(config, Mapping):
            raise ValueError("adapter_config.json is not an object")  # noqa: TRY004 (the file's fault, not the code's)
        if config.get("peft_type") != "LORA":
            raise ValueError(f"peft_type is {config.get('peft_type')!r}: only LORA is served")
        rank, alpha = config.get("r"), config.get("lora_alpha")
        if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= MAX_RANK:
            raise ValueError(f"r is {rank!r}: it must be a whole number from 1 to {MAX_RANK}")
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
            raise ValueError(f"lora_alpha is {alpha!r}: it must be a number")
        for field in CHANGES_THE_NUMBERS:
            if config.get(field) not in (None, False, "none", [], {}):
                raise ValueError(f"{field} is {config[field]!r}: such adapters are not served")
        return cls(rank, float(alpha), bool(config.get("use_rslora")), bool(config.get("use_dora")))


MAX_RANK = 512
# Fields of PEFT's LoraConfig that make more of an adapter than s B A x.
CHANGES_THE_NUMBERS = (
    "alora_invocation_tokens",
    "alpha_pattern",
    "bias",
    "fan_in_fan_out",
    "layer_replication",
    "lora_bias",
    "megatron_config",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
)


class ContextError(ValueError):
    """Prompt and answer do not fit the context."""


def output_tokens(prompt_tokens: int, asked: int | None, default: int, context: int) -> int:
    """How many tokens the answer may have. Raises ContextError, whose text tells the three numbers."""
    room = context - prompt_tokens
    if room < 1:
        raise ContextError(f"The context has {context} tokens and the prompt {prompt_tokens}: shorten the messages.")
    if asked is not None and asked > room:
        raise ContextError(
            f"The context has {context} tokens; the prompt has {prompt_tokens} and {asked} were asked for the answer: "
            f"shorten the messages, or ask for at most {room}."
        )
    return min(default, room) if asked is None else asked


def is_sampled(sample_rate: float, draw: float) -> bool:
    """`draw`: a random number of [0, 1)."""
    return draw < sample_rate
