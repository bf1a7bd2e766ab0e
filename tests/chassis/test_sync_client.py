"""The client without `await` is made of the one with it, and nobody edits what is made."""

from __future__ import annotations

import inspect
from pathlib import Path

from sskai.client import AsyncClient, Client
from tools import sync_client


def test_what_is_made_is_fresh() -> None:
    made = sync_client.made()
    folder = Path(sync_client.CLIENT) / "_sync"
    assert {path.name for path in folder.glob("*.py")} - sync_client.BY_HAND == set(made)
    for name, text in made.items():
        assert (folder / name).read_text() == text, f"{name}: run python -m tools.sync_client"


def test_both_clients_have_the_same_resources_and_calls() -> None:
    with Client("http://gateway", "key") as sync:
        asynchronous = AsyncClient("http://gateway", "key")
        resources = [name for name in vars(sync) if not name.startswith("_") and name != "base_url"]
        assert len(resources) > 20
        for name in resources:
            one, other = type(getattr(sync, name)), type(getattr(asynchronous, name))
            calls = [call for call, _ in inspect.getmembers(one, inspect.isfunction) if not call.startswith("_")]
            assert calls, name
            for call in calls:
                parameters = inspect.signature(getattr(one, call)).parameters
                assert list(parameters) == list(inspect.signature(getattr(other, call)).parameters), f"{name}.{call}"


def test_words_are_translated_whole() -> None:
    text = "async def f(x: AsyncIterator[Asynchronous]) -> None:\n    await x.aclose()\n"
    assert "def f(x: Iterator[Asynchronous]) -> None:\n    x.close()\n" in sync_client.translated(text)
