"""Everything that is kept, and a few mutations of it, through each target; `make test-heavy` tries many more."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import corpus
from tests.fuzz.mutating import mutated
from tests.fuzz.running import once, search
from tests.fuzz.targets import TARGETS

MAX_CORPUS_BYTES = 300_000
HEAVY_SECONDS = 15.0


@pytest.mark.parametrize("target", TARGETS)
def test_everything_that_is_kept_passes(target: str) -> None:
    for path in corpus.files(target):
        try:
            once(target, corpus.read(path))
        except Exception as error:
            error.add_note(f"python -m tests.fuzz {target} --file {path}")
            raise


@pytest.mark.parametrize("target", TARGETS)
def test_mutations_of_what_is_kept_pass(target: str) -> None:
    seeds = corpus.seeds(target)

    @settings(max_examples=25, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(seeds), st.integers(0, 2**32))
    def passes(data: bytes, seed: int) -> None:
        once(target, mutated(data, seeds, random.Random(seed)))

    passes()


@pytest.mark.heavy
@pytest.mark.parametrize("target", TARGETS)
def test_many_mutations_pass(target: str) -> None:
    _, finding = search(target, HEAVY_SECONDS, seed=1)
    if finding is not None:
        finding.error.add_note(f"the input: {finding.data!r:.2000}")
        raise finding.error


def test_the_corpus_is_small_and_each_target_has_one() -> None:
    assert {path.name for path in corpus.FOLDER.iterdir()} == set(TARGETS)
    assert sum(path.stat().st_size for target in TARGETS for path in corpus.files(target)) < MAX_CORPUS_BYTES
