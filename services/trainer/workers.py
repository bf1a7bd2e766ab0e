"""The worker processes of one attempt as the loop sees them: a share of each batch, sums, and one end for all.

Gradients are summed by our own all-reduce rather than by torch's DDP: docs/decisions/0015. All tiny exchanges go over
gloo, which notices a lost peer at once; gradients on GPUs go over NCCL. The order of a sum depends on the number of
workers alone, so that the same number gives the same bits again on a CPU.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from services.trainer.domain import FencedError, TrainingFailedError, WorkerLostError
from services.trainer.interruption import NoticeError

Item = TypeVar("Item")

BUCKET_BYTES = 25 * 1024 * 1024  # torch DDP's: large enough for the bandwidth, small beside the gradients
# What ends a step for all, the worst last: the greatest that any worker met counts.
GOES_ON, NOTICED, FENCED, FAILED = range(4)


class Workers:
    """All workers of the attempt, from one of them. Of one worker alone nothing is exchanged and nothing changes."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self.sharded = False  # each holds a part of the model (sharding.py), which sums gradients by itself

    @property
    def first(self) -> bool:
        """Whether this worker speaks and writes for all."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Those of a batch that are this worker's; none where there are fewer than workers."""
        return items if self.size == 1 else items[self.rank :: self.size]

    def seed(self, seed: int, step: int) -> int | None:
        """What this worker's generators begin the step with; None: they go on. Nothing of it needs to be saved."""
        if self.size == 1:
            return None
        text = f"{seed}:{step}:{self.rank}:{self.size}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])

    def total(self, *values: float) -> list[float]:
        """Each summed over the workers, in float64. Raises WorkerLostError."""
        if self.size == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64)
        with _losing():
            dist.all_reduce(summed)
        return [float(value) for value in summed]

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Sum `.grad` over the workers, in place. One that no worker has stays None. Raises WorkerLostError."""
        if self.size == 1 or self.sharded or not parameters:
            return
        present = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.uint8)
        with _losing():
            dist.all_reduce(present, dist.ReduceOp.MAX)
            wanted = [parameter for parameter, one in zip(parameters, present.tolist(), strict=True) if one]
            for parameter in wanted:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            for bucket in _buckets([parameter.grad for parameter in wanted]):
                flat = torch.cat([gradient.reshape(-1) for gradient in bucket])
                dist.all_reduce(flat)
                for gradient, summed in zip(bucket, flat.split([each.numel() for each in bucket]), strict=True):
                    gradient.copy_(summed.view_as(gradient))

    def spread(self, tensors: Sequence[torch.Tensor]) -> None:
        """The first worker's values become everybody's. Raises WorkerLostError."""
        if self.size > 1:
            with _losing():
                for tensor in tensors:
                    dist.broadcast(tensor.detach(), 0)

    def tell(self, value: Any) -> Any:
        """What the first worker has, to all: something that JSON can hold. Raises WorkerLostError."""
        if self.size == 1:
            return value
        told = [json.dumps(value) if self.first else None]
        with _losing():
            dist.broadcast_object_list(told, 0)
        return json.loads(told[0] or "null")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work of this worker's own. When it ends by an error for any worker, it ends for all, and all raise the same:
        NoticeError, FencedError or TrainingFailedError. Raises WorkerLostError."""
        if self.size == 1:
            yield
            return
        met: Exception | None = None
        try:
            yield
        except WorkerLostError:
            raise
        except Exception as error:  # whatever it is, the others wait for the word
            met = error
        self._agree(met)

    def _agree(self, met: Exception | None) -> None:
        worst = torch.tensor([_severity(met)])
        with _losing():
            dist.all_reduce(worst, dist.ReduceOp.MAX)
        if worst.item() == GOES_ON:
            return
        if worst.item() == NOTICED:
            raise NoticeError from met
        if worst.item() == FENCED:
            raise FencedError("a newer attempt has begun") from met
        failures: list[Any] = [None] * self.size
        with _losing():
            dist.all_gather_object(failures, _failure(met))
        reason, detail = next(failure for failure in failures if failure is not None)
        raise TrainingFailedError(reason, detail) from met


ALONE = Workers()


def join() -> Workers:
    """The group that torch's agent put this process into (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT), or `ALONE`."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ALONE
    if not dist.is_initialized():
        with _losing():
            dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Workers(int(os.environ["RANK"]), size)


@contextmanager
def _losing() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo's own, and dist.DistBackendError
        raise WorkerLostError(str(error)) from error


def _buckets(gradients: Sequence[Any]) -> Iterator[list[torch.Tensor]]:
    """In order; each of one type."""
    bucket: list[torch.Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (gradient.dtype != bucket[0].dtype or size + gradient.nbytes > BUCKET_BYTES):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket


def _severity(met: Exception | None) -> int:
    if met is None:
        return GOES_ON
    return NOTICED if isinstance(met, NoticeError) else FENCED if isinstance(met, FencedError) else FAILED


def _failure(met: Exception | None) -> tuple[str, str] | None:
    from services.trainer.training import is_out_of_memory

    if met is None or _severity(met) != FAILED:
        return None
    if isinstance(met, TrainingFailedError):
        return met.reason, met.detail
    return ("out-of-memory" if is_out_of_memory(met) else "error"), repr(met)
