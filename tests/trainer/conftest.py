"""The tiny model, once per session, torch as the other tests found it, and attempts in this process and in pods."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.trainer import pod
from services.trainer.domain import Exit
from services.trainer.interruption import Interruption
from services.trainer.progress import Progress
from services.trainer.settings import PodSettings
from sskai.broker import Broker
from sskai.local.objectstore import ObjectStore
from sskai.objects import Objects
from tests import tiny_model
from tests.trainer.pods import Pod


@pytest.fixture(scope="session")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of base models with one in it: `tiny`."""
    folder = tmp_path_factory.mktemp("models")
    tiny_model.build(folder / "tiny")
    return folder


@pytest.fixture
def torch_as_before() -> Iterator[None]:
    """An attempt in this process makes torch deterministic; other tests measure it otherwise."""
    import torch

    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def store() -> object:
    """An object store whose credentials a process can be given."""
    with ObjectStore.start() as running:
        yield running


@pytest.fixture(scope="module")
def credentials(store: ObjectStore) -> dict[str, str]:
    return {
        "SSKAI_OBJECTS_URL": store.url,
        "SSKAI_OBJECTS_BUCKET": store.bucket,
        "SSKAI_OBJECTS_ACCESS_KEY": store.credentials.access_key,
        "SSKAI_OBJECTS_SECRET_KEY": store.credentials.secret_key,
    }


@pytest.fixture(scope="module")
def bucket(store: ObjectStore) -> Objects:
    return Objects(store.url, store.bucket, store.credentials.access_key, store.credentials.secret_key)


@pytest.fixture
def run_here(credentials: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Exit]:
    """Run an attempt in this process; its folder is left for a look."""

    def run(settings: PodSettings, folder: Path, interruption: Interruption | None = None) -> Exit:
        for name, value in credentials.items():
            monkeypatch.setenv(name, value)  # each time: an attempt on a user's code drops them
        folder.mkdir(parents=True, exist_ok=True)
        settings = PodSettings(
            **settings.model_dump(exclude={name.removeprefix("SSKAI_").lower() for name in credentials})
        )
        broker = Broker.from_settings(settings) if settings.kafka_bootstrap else None
        progress = Progress(broker, settings.job_id, settings.tenant_id, settings.attempt, folder)
        progress.start()
        code = pod.run(settings, progress, interruption or Interruption(), folder)
        progress.close()
        return code

    return run


@pytest.fixture
def start(credentials: dict[str, str]) -> Iterator[Callable[[PodSettings, Path], Pod]]:
    """Start a pod's process; none outlives the test."""
    pods: list[Pod] = []

    def start_pod(settings: PodSettings, folder: Path) -> Pod:
        pods.append(Pod(settings, credentials, folder))
        return pods[-1]

    yield start_pod
    for one in pods:
        one.process.kill()
        one.end()
