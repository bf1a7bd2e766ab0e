"""The embedded stack for the journeys: all as processes, once per session, with a tiny model as the foundation."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sskai.client import Client
from sskai.demo.journey import Scenario
from sskai.local import stack
from sskai.local.cloud.client import CloudClient
from sskai.local.state import StackState, read_state
from sskai.objects import Objects
from tests import tiny_model


@dataclass
class Stack:
    """A running stack and what a test needs of it."""

    home: Path
    state: StackState

    @property
    def key(self) -> str:
        return self.state.admin_key

    @property
    def cloud(self) -> CloudClient:
        return CloudClient(self.state.environment["SSKAI_CLOUD_URL"], self.state.environment["SSKAI_CLOUD_TOKEN"])

    @property
    def objects(self) -> Objects:
        told = self.state.environment
        names = ("SSKAI_OBJECTS_URL", "SSKAI_OBJECTS_BUCKET", "SSKAI_OBJECTS_ACCESS_KEY", "SSKAI_OBJECTS_SECRET_KEY")
        return Objects(*(told[name] for name in names))

    def client(self) -> Client:
        return Client(self.state.gateway_url, self.key)

    def pid(self, part: str) -> int | None:
        state = read_state(self.home)
        assert state is not None
        process = state.parts[part].process
        return process.pid if process is not None and process.alive() else None


@pytest.fixture(scope="session")
def running() -> Iterator[Stack]:
    """The whole system, up."""
    with tempfile.TemporaryDirectory(prefix="sskai-journey-") as folder:
        home = Path(folder) / "home"
        Path(folder).chmod(0o755)
        changes = {
            # Processes start and stop by the dozen here; a laptop's patience would only make the tests slow.
            "SSKAI_PATIENCE_SECONDS": "2",
            "SSKAI_TRAINER_THREADS": "1",
        }
        before = {name: os.environ.get(name) for name in changes}
        os.environ.update(changes)
        try:
            state = stack.up(home)
            yield Stack(home, state)
        finally:
            stack.down(home)
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def base_model(running: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny foundation model, brought along by the user: its id."""
    folder = tiny_model.build(tmp_path_factory.mktemp("tiny"))
    with running.client() as client:
        return str(client.models.upload(folder, name="tiny-llama")["id"])


@pytest.fixture
def conversation_file(tmp_path: Path) -> Path:
    """A small dataset in the `messages` format."""
    path = tmp_path / "chats.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in tiny_model_rows()))
    return path


def tiny_model_rows(count: int = 120) -> list[dict[str, object]]:
    """Questions and answers of few words, so that a model of a million weights learns something in seconds."""
    things = ["cat", "dog", "bird", "fish", "horse", "cow"]
    sounds = ["meow", "woof", "tweet", "blub", "neigh", "moo"]
    forms = ["What does the {} say?", "Tell me what the {} says.", "The {} says?", "Please, the sound of the {}."]
    return [
        {
            "messages": [
                {"role": "user", "content": forms[(number // 6) % 4].format(things[number % 6])},
                {"role": "assistant", "content": f"The {things[number % 6]} says {sounds[number % 6]}."},
            ]
        }
        for number in range(count)
    ]


@pytest.fixture
def scenario(conversation_file: Path, base_model: str) -> Scenario:
    """The demo's journey on the tiny model."""
    return Scenario(
        base_model=base_model,
        dataset_file=conversation_file,
        question="What does the cat say?",
        familiar=[str(row["messages"][0]["content"]) for row in tiny_model_rows()],  # type: ignore[index]
        drifted=[f"Write a function number {number} that sorts a list in Python" for number in range(60)],
        n_epochs=40,
        max_steps=240,
        checkpoint_interval_steps=20,
        interrupt_at_step=25,
        # Longer than a killed service takes to come back.
        notice_seconds=15,
        learning_rate=2e-3,
        answer_tokens=12,
    )
