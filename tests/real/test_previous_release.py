"""The release before runs beside this one: each service is replaced while jobs run, and put back; nothing is lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from sskai import broker_admin, contract
from sskai.client import Client
from sskai.contract import new_id
from sskai.database import SERVICES, migrate
from sskai.local import stack
from sskai.local.layout import SOURCE_FOLDER, Layout
from sskai.local.processes import Child, Program
from sskai.testing import wait_for
from tests import tiny_model
from tests.journeys.conftest import tiny_model_rows

pytestmark = [pytest.mark.real, pytest.mark.timeout(3000)]

NAMED = Path("deploy/previous-release")
ORDER = ("monitor", "optimizer", "trainer", "inference", "scheduler", "gateway")  # docs/operations/upgrade.md
READY_SECONDS = 180
LIMIT_SECONDS = 900
STEPS = 10


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree of the release before, out of this repository's own history."""
    commit = NAMED.read_text().strip()
    if shutil.which("git") is None or not Path(".git").exists():
        pytest.skip("no git history here: a clone of the repository is needed")
    done = subprocess.run(["git", "archive", commit], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"the history lacks {commit} ({NAMED}): fetch it whole (`git fetch --unshallow`)")
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


class Services:
    """The six as processes, each of one tree or the other, at the same addresses."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self._home = home
        self._layout = Layout.read(home)
        self._environment = environment
        self._running: dict[str, Child] = {}

    def run(self, name: str, tree: Path) -> None:
        """Stop it if it runs, and start it from that tree; returns when it is ready."""
        self.stop(name)
        program = Program(
            name=name,
            command=[sys.executable, "-m", *_program(name, tree)],
            log=self._home / "logs" / f"{name}.log",
            ready=lambda: _ready(f"{self._layout.url(name)}/readyz"),
            environment={
                **self._environment, "SSKAI_PORT": str(self._layout.ports[name]), "PYTHONPATH": str(tree),
            },
            folder=tree,
            stop_limit_seconds=15,
        )  # fmt: skip
        self._running[name] = Child.spawn(program)
        self._running[name].wait_ready(READY_SECONDS)

    def stop(self, name: str) -> None:
        if (child := self._running.pop(name, None)) is not None:
            child.stop()

    def end(self) -> None:
        for name in list(self._running):
            self.stop(name)


def _program(name: str, tree: Path) -> list[str]:
    return ["services", name] if (tree / "services" / "__main__.py").exists() else [f"services.{name}.main"]


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sskai-upgrade-") as folder:
        Path(folder).chmod(0o755)
        one = Path(folder) / "home"
        try:
            yield one
        finally:
            stack.down(one)


class Users(threading.Thread):
    """Submits a job, and then the next, for as long as it may."""

    def __init__(self, url: str, key: str, file: dict[str, object], pause_seconds: float) -> None:
        super().__init__(daemon=True)
        self.jobs: list[str] = []
        self.error: BaseException | None = None
        self._client = Client(url, key, retry_seconds=READY_SECONDS)
        self._file = file
        self._pause_seconds = pause_seconds
        self._enough = threading.Event()

    def run(self) -> None:
        try:
            while not self._enough.wait(self._pause_seconds):
                job = self._client.jobs.create(self._file | {"name": new_id("bot").replace("_", "-")})
                self.jobs.append(job["id"])
        except BaseException as error:
            self.error = error

    async def submits_one_more(self) -> None:
        before = len(self.jobs)
        await wait_for(lambda: len(self.jobs) > before or self.error is not None, limit_seconds=READY_SECONDS)

    def stop(self) -> list[str]:
        self._enough.set()
        self.join(READY_SECONDS)
        assert self.error is None, f"not a retryable error: {self.error!r}"
        return self.jobs


async def test_each_service_is_replaced_and_put_back_while_jobs_run(older: Path, home: Path, tmp_path: Path) -> None:
    state = stack.up(home, services=False)
    told = state.environment
    # As docs/operations/upgrade.md has it: the new release's topics (`up` made them) and migrations first.
    for service in SERVICES:
        migrate(told["SSKAI_DATABASE_URL"], service)
    services = Services(home, told)
    try:
        for name in SERVICES:
            services.run(name, older)
        with Client(state.gateway_url, state.admin_key, retry_seconds=READY_SECONDS) as client:
            users = Users(state.gateway_url, state.admin_key, _job_file(client, tmp_path), pause_seconds=8)
            users.start()
            there = [(name, SOURCE_FOLDER) for name in ORDER]
            back = [(name, older) for name in reversed(ORDER)]
            for name, tree in there + back:
                services.run(name, tree)
                await users.submits_one_more()
            jobs = users.stop()

            def ended() -> bool:
                states = {client.jobs.get(one)["state"] for one in jobs}
                assert not states & {"failed", "cancelled"}
                return states == {"succeeded"}

            await wait_for(ended, limit_seconds=LIMIT_SECONDS)
        for topic in (*contract.TOPICS, contract.OTLP_TOPIC):
            assert await broker_admin.read_dead_letters(told["SSKAI_KAFKA_BOOTSTRAP"], topic) == []
    finally:
        services.end()


def _job_file(client: Client, folder: Path) -> dict[str, object]:
    chats = folder / "chats.jsonl"
    chats.write_text("".join(json.dumps(row) + "\n" for row in tiny_model_rows()))
    dataset = client.datasets.upload(chats, name="chats")
    model = client.models.upload(tiny_model.build(folder / "tiny"), name="tiny-llama")
    return {
        "kind": "finetune",
        "model": {"base": model["id"], "method": "lora", "rank": 4},
        "dataset": {"uri": f"dataset://{dataset['name']}/{dataset['version']}", "eval_fraction": 0.05},
        "hyperparameters": {"batch_size": 4, "sequence_length": 64, "learning_rate": 1e-3, "max_steps": STEPS},
        "checkpoint": {"interval": 5, "keep": 2},
    }


def test_a_named_commit_is_an_ancestor_of_this_release(older: Path) -> None:
    assert (older / "services").is_dir()
    done = subprocess.run(["git", "merge-base", "--is-ancestor", NAMED.read_text().strip(), "HEAD"], check=False)
    assert done.returncode == 0
