"""What inference is told from outside, beside the chassis's settings. All by `SSKAI_*`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

import sskai.cluster.settings
from sskai import sandbox
from sskai.cluster import Program
from sskai.sandbox import Walls


class Settings(sskai.cluster.settings.Settings):
    """The defaults suit a small machine without an accelerator."""

    program: ClassVar[Program] = Program("replica", "services.inference.replica", "sskai-inference", port=8080)

    # Artefacts from the object store lie in its folder `inference`; the least recently used ones go when that is full.
    cache: Path = Path("/var/cache/sskai")
    inference_cache_bytes: int = Field(default=20 * 1024**3, gt=0)

    device: str = "auto"  # "auto" | "cpu" | "cuda"
    # Half of the cores: threads wait for each other at every layer, so when something else takes one core away, a step
    # that has all of them takes twelve times as long (135M on 2 cores: 0.08 s alone, 0.97 s beside a busy neighbour;
    # on one thread 0.13 s and 0.15 s).
    threads: int = Field(default_factory=lambda: max(1, (os.cpu_count() or 1) // 2), gt=0)

    # Of one base. A cached token of a 135M model takes 46 KB, and what is kept of a sequence is at most twice as
    # wide as it is long: 32 sequences of 500 tokens take up to 1.5 GB, all 32 at the context's end 6 GB.
    max_concurrent_sequences: int = Field(default=32, gt=0)
    max_waiting_sequences: int = Field(default=128, ge=0)
    # What was read of recent prompts, for those that begin alike; 0: nothing is kept. 11,000 tokens of a 135M model.
    prefix_cache_bytes: int = Field(default=512 * 1024**2, ge=0)
    max_context_tokens: int = Field(default=4096, gt=1)
    # A long prompt is read in pieces of so many tokens, so that the answers under way go on in between.
    prefill_chunk_tokens: int = Field(default=256, gt=0)
    default_output_tokens: int = Field(default=512, gt=0)

    # Pictures that may wait for the one that a pipeline draws; a request asks for up to four.
    max_waiting_pictures: int = Field(default=8, ge=3)

    # How long a request waits for an endpoint that is being loaded, for example after a restart.
    load_wait_seconds: float = Field(default=60.0, gt=0)
    # A serverless endpoint that nobody asked for so long gives its memory back.
    idle_seconds: float = Field(default=300.0, gt=0)
    # Sampled inferences that wait for the database; more are dropped and counted.
    max_waiting_samples: int = Field(default=1000, gt=0)

    # How often rollouts are looked at, and how long a canary stays after its end, until all processes know of it.
    rollout_seconds: float = Field(default=2.0, gt=0)
    rollout_clean_up_seconds: float = Field(default=5.0, gt=0)
    # Answers are known to feedback for so long; so many wait for the database at most.
    feedback_retention_days: float = Field(default=7.0, gt=0)
    max_waiting_answers: int = Field(default=10_000, gt=0)

    # Users' own models as code: each loaded version is a process behind walls. Beside the one that is answered so many
    # requests wait for a model; one whose answer takes longer, or that takes more memory, is stopped.
    own_models: int = Field(default=8, ge=0)
    own_model_answer_seconds: float = Field(default=30.0, gt=0)
    own_model_start_seconds: float = Field(default=120.0, gt=0)
    own_model_memory_gib: float = Field(default=4.0, gt=0)
    own_model_waiting: int = Field(default=32, ge=0)
    # Behind which walls user code may run, the first that there is. "limits": without any (see sskai/sandbox.py).
    sandbox_walls: Annotated[tuple[Walls, ...], NoDecode] = sandbox.CLOSED

    # Replicas in pods, of endpoints of kind spot.
    replica_image: str = "sskai/inference:0.1.0"
    ec2_owner: str = Field(default="sskai-inference", min_length=1)
    replica_home: str = ""  # this service's address as pods reach it; empty: SSKAI_INFERENCE_URL
    # How often each endpoint's replicas are looked at, and metered.
    replica_turn_seconds: float = Field(default=1.0, gt=0)
    replica_metering_seconds: float = Field(default=60.0, gt=0)
    # Weights that are not loaded after so long never will be; 70B from a cold object store take 20 minutes.
    replica_start_seconds: float = Field(default=1800.0, gt=0)
    # Words come every 2 s; after so long without one a replica is replaced.
    replica_silence_seconds: float = Field(default=30.0, gt=0)
    # From SIGTERM until its machine is given back; and a drain begins at the latest so long before a machine is taken.
    replica_drain_seconds: float = Field(default=110.0, gt=0)
    replica_lead_seconds: float = Field(default=60.0, gt=0)
    # How long an offer that had no machine is left alone.
    replica_denial_seconds: float = Field(default=60.0, gt=0)
    # An endpoint that had no machine for so long since it was asked for has failed.
    replica_patience_seconds: float = Field(default=3600.0, gt=0)
    # Answers that a vLLM replica draws at a time; the embedded engine's are max_concurrent_sequences.
    vllm_sequences: int = Field(default=128, gt=0)
    # How long a load must last before it changes the number of replicas, and the pause after a change (scaling.py).
    scale_up_seconds: float = Field(default=3.0, ge=0)
    scale_up_cooldown_seconds: float = Field(default=15.0, ge=0)
    scale_down_seconds: float = Field(default=120.0, ge=0)
    scale_down_cooldown_seconds: float = Field(default=60.0, ge=0)

    @field_validator("sandbox_walls", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def image(self) -> str:
        return self.replica_image
