"""How a service's process begins."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from sskai.importing import without_garbage_collection


@pytest.mark.parametrize("words", [[], ["scheduling"], ["scheduler", "gateway"], ["../services"]])
def test_whoever_names_no_service_is_told_their_names(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "services", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "say which service: python -m services {gateway,inference,monitor,optimizer,scheduler,trainer}\n"
    )


def test_garbage_is_collected_again_after_imports_whatever_they_raise() -> None:
    def fail() -> None:
        with without_garbage_collection():
            assert not gc.isenabled()
            raise ImportError

    try:
        with pytest.raises(ImportError):
            fail()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 1000, "what was imported is looked through no more"
    finally:
        gc.unfreeze()
