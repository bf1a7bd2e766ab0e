"""What inference is told from outside, beside the chassis's settings. All by `SSKAI_*`."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

import sskai.settings


class Settings(sskai.settings.Settings):
    """The defaults suit a small machine without an accelerator."""

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
