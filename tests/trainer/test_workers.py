"""What workers agree on, between two real processes over gloo."""

from __future__ import annotations

import os
from multiprocessing.synchronize import Event

import pytest
import torch
import torch.multiprocessing

from services.trainer import workers
from services.trainer.domain import FencedError, TrainingFailedError, WorkerLostError
from services.trainer.interruption import NoticeError
from services.trainer.workers import Workers
from sskai.local.processes import free_ports


def fail_with(error: Exception | None) -> None:
    if error is not None:
        raise error


def as_member(rank: int, port: int, heard_all: Event) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    group = workers.join()
    assert (group.rank, group.size, group.first) == (rank, 2, rank == 0)
    assert list(group.share(range(5))) == [[0, 2, 4], [1, 3]][rank]
    assert group.total(rank + 1, 0.5) == [3, 1]
    assert group.tell({"attempt": 3} if rank == 0 else None) == {"attempt": 3}
    with group.together():
        pass
    gradients_are_summed(group)
    the_worst_ends_all(group)
    if rank == 1:
        assert heard_all.wait(60)  # what lies unread in a socket is lost with the process that sent it
        os._exit(0)  # lost
    heard_all.set()
    with pytest.raises(WorkerLostError):
        group.total(1)
    os._exit(0)  # as a pod's worker does: the lost group's threads may still run


def gradients_are_summed(group: Workers) -> None:
    """One that both have, one that only the second has, one that nobody has."""
    both, second, nobody = (torch.nn.Parameter(torch.zeros(3)) for _ in range(3))
    both.grad = torch.full((3,), 1.0 + group.rank)
    if group.rank == 1:
        second.grad = torch.full((3,), 5.0)
    group.add_gradients([both, second, nobody])
    assert both.grad.tolist() == [3, 3, 3]
    assert second.grad is not None
    assert second.grad.tolist() == [5, 5, 5]
    assert nobody.grad is None


def the_worst_ends_all(group: Workers) -> None:
    nan = TrainingFailedError("nan-loss", "rows 7")
    for met, expected in (
        ((None, NoticeError()), NoticeError),
        ((FencedError(), NoticeError()), FencedError),
        ((NoticeError(), nan), TrainingFailedError),
        ((KeyError("column"), None), TrainingFailedError),
    ):
        with pytest.raises(expected) as told, group.together():
            fail_with(met[group.rank])
        if met[1] is nan:
            assert str(told.value) == "nan-loss: rows 7"


@pytest.mark.timeout(120)
def test_two_workers_share_sum_and_end_together() -> None:
    (port,) = free_ports(1)
    heard_all = torch.multiprocessing.get_context("spawn").Event()
    torch.multiprocessing.spawn(as_member, (port, heard_all), nprocs=2)


def test_one_worker_alone_changes_nothing() -> None:
    alone = workers.ALONE
    assert list(alone.share([1, 2])) == [1, 2]
    assert alone.total(3) == [3]
    assert alone.seed(7, 1) is None
    with pytest.raises(KeyError), alone.together():
        raise KeyError


def test_workers_draw_from_generators_of_their_own() -> None:
    drawn = {Workers(rank, 2).seed(seed, step) for rank in (0, 1) for seed in (0, 1) for step in (0, 1)}
    assert len(drawn) == 8
