"""Whatever goes wrong wherever a job's life touches the outside, once: the end is the one without a fault."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sskai.failpoints import Action
from sskai.objects import Objects
from tests.reliability import boundaries
from tests.reliability.job_life import job_life
from tests.reliability.matrix import Matrix, cells
from tests.reliability.notices_life import notices_life
from tests.reliability.stage import Stage
from tests.trainer.test_service import publish


@pytest.fixture(scope="module")
def stage(postgres: str) -> Iterator[Stage]:
    found = Stage(postgres)
    yield found
    found.close()


@pytest.fixture(scope="module")
def matrix(stage: Stage, objects: Objects, tmp_path_factory: pytest.TempPathFactory) -> Matrix:
    artifact_uri = publish(objects, tmp_path_factory.mktemp("artifact"), "job_1")
    return Matrix(stage, job_life(objects, artifact_uri))


def test_the_life_without_a_fault(matrix: Matrix) -> None:
    """What every cell is compared with is a whole life: interrupted, gone on, published, paid."""
    state, places = matrix.oracle()
    assert state["scheduler"] == [("succeeded",)]
    assert state["result"] == [("published", 1)]
    assert (state["machines"], state["dead letters"]) == ([], [])
    assert {cell.action for cell in cells(places)} == set(Action) - {Action.DELAY}
    _crossed(places, "JOB_LIFE", boundaries.JOB_LIFE)


def test_the_life_of_the_clouds_messages_without_a_fault(stage: Stage) -> None:
    state, places = Matrix(stage, notices_life).oracle()
    assert [machine for _kind, machine in state["told"]] == ["i-1", "i-2", "m-1"]
    assert state["left"] == []
    _crossed(places, "NOTICES_LIFE", boundaries.NOTICES_LIFE)


def _crossed(places: list[str], name: str, listed: frozenset[str]) -> None:
    """What the life crosses is what `make check` takes it to cross."""
    found = {place.partition(">")[2] for place in places}
    more, fewer = sorted(found - listed), sorted(listed - found)
    assert found == listed, (
        f"{name} in tests/reliability/boundaries.py: add {more or 'nothing'}, take out {fewer or 'nothing'}; what no "
        "life crosses any more needs a test of its own in TRIED there (python -m tools.check_failpoints)"
    )


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_whatever_goes_wrong_when_a_machine_is_asked_for_or_given_back(matrix: Matrix) -> None:
    points = (">cluster.launch", ">cluster.delete")
    wrong = matrix.wrong(lambda cell: cell.place.endswith(points) and cell.action is not Action.HANG)
    assert not wrong, "\n".join(wrong)


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_the_whole_matrix(matrix: Matrix) -> None:
    wrong = matrix.wrong()
    assert not wrong, "\n".join(wrong)


@pytest.mark.heavy
@pytest.mark.timeout(1200)
def test_whatever_goes_wrong_while_the_clouds_messages_are_read(stage: Stage) -> None:
    matrix = Matrix(stage, notices_life)
    wrong = matrix.wrong()
    assert not wrong, "\n".join(wrong)
