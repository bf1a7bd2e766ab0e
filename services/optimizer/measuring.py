"""Measures this computer: `python -m services.optimizer.measuring THREADS` prints one JSON object and takes up to 2 s.

A process of its own, because the libraries under numpy read how many threads they may use when they are loaded, and so
that its memory is given back. Arithmetic is a float32 matrix product, which large-matrix training is made of; bandwidth
is a copy that no cache holds, counted as STREAM counts it: bytes read and bytes written.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
PART_SECONDS = 1.0  # for each of the two
REPEATS = 40
MATRIX = 1024
COPY_BYTES = 64 * 1024 * 1024


def least_seconds(work: Callable[[], object]) -> float:
    """Of many repeats after one that warms up: what else the machine does, as when a stack starts, only ever adds."""
    work()
    taken: list[float] = []
    give_up_at = time.perf_counter() + PART_SECONDS
    while not taken or (len(taken) < REPEATS and time.perf_counter() < give_up_at):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return min(taken)


def measure(threads: int) -> dict[str, float]:
    """Reached FLOP and bytes per second."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)
    import numpy as np

    left = np.full((MATRIX, MATRIX), 0.5, dtype=np.float32)
    product = np.empty_like(left)
    matmul_seconds = least_seconds(lambda: np.matmul(left, left, out=product))
    source = np.ones(COPY_BYTES, dtype=np.uint8)
    target = np.zeros_like(source)
    copy_seconds = least_seconds(lambda: np.copyto(target, source))
    return {
        "flops_per_second": 2 * MATRIX**3 / matmul_seconds,
        "bandwidth_bytes_per_second": 2 * COPY_BYTES / copy_seconds,
        "threads": threads,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
