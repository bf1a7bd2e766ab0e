"""The sandbox against real attempts to get out, as root and as nobody, behind each kind of wall that there is here."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from sskai import sandbox, sandbox_walls
from sskai.sandbox import Limits, Outcome, SandboxError
from sskai.testing import wait_for

ROOT = Path(__file__).parents[2]
NOBODY = 65534
SYSTEM_PYTHON = Path("/usr/bin/python3")
SECRET = "not-for-the-program"
# Runs the sandbox as another user, with the system's interpreter (this one may lie where only root can read).
DRIVER = """
import asyncio, dataclasses, json, os, sys
sys.path.append(sys.argv[1])
from pathlib import Path
from sskai import sandbox
asked = json.loads(sys.argv[2])
if asked["contained"]:
    # As in a container whose profile lets nobody make namespaces.
    sandbox.sandbox_walls.prctl(sandbox.sandbox_walls.PR_SET_NO_NEW_PRIVS, 1)
    sandbox.sandbox_walls.forbid_calls(os.getpid())
try:
    limits = sandbox.Limits(**asked["limits"])
    program, folder = Path(asked["program"]), Path(asked["folder"])
    arguments = [str(os.getpid())]
    outcome = asyncio.run(sandbox.run(program, folder, arguments=arguments, limits=limits, walls=asked["walls"]))
    print(json.dumps({**dataclasses.asdict(outcome), "stdout": outcome.stdout.decode()}))
except sandbox.SandboxError as error:
    print(json.dumps({"refused": str(error)}))
"""


@dataclass(frozen=True)
class Place:
    """Who starts the sandbox, and behind which walls. The program's argument is the number of the service's process."""

    user: str  # "me" | "nobody"
    walls: str

    def run(self, program: Path, folder: Path, **limits: Any) -> Outcome:
        """Skips, and says so, where these walls cannot be had."""
        try:
            if self.user == "me":
                # As root the filters hide nothing of the way to the interpreter.
                python = SYSTEM_PYTHON if self.walls == "filters" and os.getuid() == 0 else None
                arguments, asked = [str(os.getpid())], Limits(**limits)
                return asyncio.run(
                    sandbox.run(program, folder, arguments=arguments, limits=asked, walls=(self.walls,), python=python)
                )
            return as_nobody(program, folder, limits, [self.walls])
        except SandboxError as error:
            pytest.skip(f"the other kind of wall is used here, for: {error}")


def as_nobody(
    program: Path, folder: Path, limits: dict[str, Any], walls: Sequence[str], *, contained: bool = False
) -> Outcome:
    asked = {"program": str(program), "folder": str(folder), "limits": limits, "walls": walls, "contained": contained}
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", DRIVER, str(ROOT), json.dumps(asked)],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        env={"SSKAI_SECRET": SECRET},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if "refused" in answer:
        raise SandboxError(answer["refused"])
    return Outcome(**{**answer, "stdout": answer["stdout"].encode()})


def places() -> list[Place]:
    found = [Place("me", "namespaces"), Place("me", "filters")]
    if os.getuid() == 0 and SYSTEM_PYTHON.exists():
        found += [Place("nobody", "namespaces"), Place("nobody", "filters")]
    return found


each_place = pytest.mark.parametrize("place", places(), ids=lambda place: f"{place.user}-{place.walls}")


@pytest.fixture
def open_place() -> Iterator[Path]:
    """Readable for everybody, as the sandbox asks for. `tmp_path` is not, and its folders are shared by other tests."""
    with tempfile.TemporaryDirectory(prefix="sskai-test-", dir="/tmp") as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.fixture
def folder(open_place: Path) -> Path:
    """What the sandbox is given to read."""
    given = open_place / "given"
    given.mkdir()
    given.chmod(0o755)
    return given


@pytest.fixture
def program(folder: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = folder / "program.py"
        path.write_text(text)
        path.chmod(0o644)
        return path

    return write


@pytest.fixture(autouse=True)
def nothing_is_left(open_place: Path) -> Iterator[None]:
    """No process of the sandbox lives on, whatever happened inside: neither ours nor one with the program's name."""
    before = psutil.Process().children(recursive=True)
    yield
    left = [each for each in psutil.Process().children(recursive=True) if each not in before]
    for each in psutil.process_iter(["cmdline"]):
        left += [each] if str(open_place) in " ".join(each.info["cmdline"] or ()) else []
    _, alive = psutil.wait_procs(left, timeout=5)  # one that was killed may not be gone yet
    assert alive == []


# Each is an attempt; `value` of those that come through is what they got.
ATTEMPTS = {
    "the environment's secret": "[value for value in os.environ.values() if 'not-for' in value][0]",
    "the first process's environment": "open('/proc/1/environ').read() or refuse()",
    "the service's environment": "open(f'/proc/{told.service}/environ').read()",
    "the warden's environment": "open(f'/proc/{os.getppid()}/environ').read() or refuse()",
    "the service's memory": "open(f'/proc/{told.service}/mem', 'rb')",
    "a listening socket": "socket.create_connection(('127.0.0.1', told.port), timeout=2)",
    "a Unix socket": "connect_unix(told.unix)",
    "an abstract Unix socket": "connect_unix(chr(0) + told.abstract)",
    "machine metadata": "socket.create_connection(('169.254.169.254', 80), timeout=2)",
    "machine metadata by IPv6": "socket.create_connection(('fd00:ec2::254', 80), timeout=2)",
    "a container's credentials": "socket.create_connection(('169.254.170.2', 80), timeout=2)",
    "a name server": "socket.getaddrinfo('example.com', 80)",
    "a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', told.port))",
    "a raw socket": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "a socket of io_uring": "syscall(425, 8, ctypes.create_string_buffer(120))",
    "a file beside the input": "open(os.path.join(sys.argv[1], 'new'), 'w')",
    "a change of the input": "open(os.path.join(sys.argv[1], 'program.py'), 'a')",
    "a file in /tmp": "open('/tmp/sskai-escaped', 'w')",
    "a file in shared memory": "open('/dev/shm/sskai-escaped', 'w')",
    "a change of the interpreter": "open(os.path.join(os.path.dirname(os.__file__), 'os.py'), 'a')",
    "root's passwords": "open('/etc/shadow').read()",
    "a private file": "open(told.private).read()",
    "a private file through a link of the input": "open(os.path.join(sys.argv[1], 'link')).read()",
    "a private file through a link of its own": "(os.symlink(told.private, 'mine'), open('mine').read())",
    "a readable file elsewhere": "open(told.public).read()",
    "the mode of a file of the service": "os.chmod(told.mine, 0o777)",
    "the times of a file of the service": "os.utime(told.mine, (1, 1))",
    "the length of a file of the service": "os.truncate(told.mine, 0)",
    "an attribute of a file of the service": "os.setxattr(told.mine, 'user.x', b'x')",
    "the name of a file of the service": "os.rename(told.mine, 'mine2')",
    "a second name of a file of the service": "os.link(told.mine, 'mine3')",
    "the end of a file of the service": "os.unlink(told.mine)",
    "root again": "(os.setuid(0), os.getuid())[1] == 0 or refuse()",
    "root as a group": "os.setgid(0)",
    "groups": "os.setgroups([0])",
    "being root": "os.geteuid() == 0 or refuse()",
    "rights of its own": "[x for x in open('/proc/self/status') if x.startswith('CapEff') and int(x[7:], 16)][0]",
    "a user namespace": "checked(libc.unshare(0x10000000))",
    "a mount": "checked(libc.mount(b'none', os.getcwd().encode(), b'tmpfs', 0, None))",
    "tracing the parent": "checked(libc.ptrace(16, os.getppid(), 0, 0))",
    "a signal to the service": "os.kill(told.service, 0)",
    "a signal to the warden": "os.kill(os.getppid(), 9)",
    "a limit of the service": "resource.prlimit(told.service, resource.RLIMIT_CORE, (0, 0))",
    "a higher limit of processes": "resource.setrlimit(resource.RLIMIT_NPROC, (9999, 9999))",
    "an open file of the service": "[n for n in range(3, 64) if os.readlink(f'/proc/self/fd/{n}')][0]",
    "kernel messages": "checked(libc.klogctl(3, ctypes.create_string_buffer(9), 9))",
    "a device": "os.mknod('disk', 0o60600, os.makedev(8, 0))",
}
ATTEMPTING = """
import ctypes, json, os, resource, socket, sys, types
told = types.SimpleNamespace(**json.load(open(sys.argv[1] + '/told.json')), service=int(sys.argv[2]))
libc = ctypes.CDLL(None, use_errno=True)
def refuse(): raise PermissionError('nothing there')
def checked(result):
    if result < 0: raise OSError(ctypes.get_errno(), 'refused')
    return 'done'
def syscall(*arguments): return checked(libc.syscall(*arguments))
def connect_unix(address):
    with socket.socket(socket.AF_UNIX) as own: own.connect(address); return 'connected'
answers = {}
for name, attempt in json.load(open(sys.argv[1] + '/attempts.json')).items():
    try: answers[name] = repr(eval(attempt))
    except (OSError, IndexError, ValueError) as error: answers[name] = None
print(json.dumps(answers))
"""


@pytest.fixture
def attempting(
    place: Place, folder: Path, open_place: Path, program: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A program that makes every attempt, and what it is after: secrets, private files, sockets that listen."""
    monkeypatch.setenv("SSKAI_SECRET", SECRET)
    own = open_place / "own"
    own.mkdir()
    private, public, mine = open_place / "private", open_place / "public", own / "mine"
    for path, mode in ((private, 0o600), (public, 0o644), (mine, 0o600)):
        path.write_text(SECRET)
        path.chmod(mode)
    if place.user == "nobody":
        os.chown(own, NOBODY, NOBODY)
        os.chown(mine, NOBODY, NOBODY)
    (folder / "link").symlink_to(private)
    address = f"/tmp/sskai-test-{os.getpid()}"  # a path of a Unix socket must be short
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        for each, at in ((named, address), (abstract, "\0" + address)):
            each.bind(at)
            each.listen()
        Path(address).chmod(0o777)
        told = {
            "port": server.getsockname()[1],
            "unix": address,
            "abstract": address,
            "private": str(private),
            "public": str(public),
            "mine": str(mine),
        }
        (folder / "told.json").write_text(json.dumps(told))
        (folder / "attempts.json").write_text(json.dumps(ATTEMPTS))
        yield program(ATTEMPTING)
    for made in (address, "/tmp/sskai-escaped", "/dev/shm/sskai-escaped"):
        Path(made).unlink(missing_ok=True)


def reached(outcome: Outcome) -> dict[str, str]:
    assert outcome.exit_code == 0, outcome.stderr_tail
    answers = json.loads(outcome.stdout)
    assert len(answers) >= len(ATTEMPTS) - 1
    return {name: got for name, got in answers.items() if got is not None}


@each_place
def test_nothing_outside_is_reached(place: Place, attempting: Path, folder: Path) -> None:
    outcome = place.run(attempting, folder, wall_seconds=30)
    assert reached(outcome) == {}
    assert outcome.walls == place.walls
    assert not Path("/tmp/sskai-escaped").exists()


@pytest.mark.parametrize("place", [Place("nobody" if places()[2:] else "me", "limits")])
def test_the_attempts_come_through_where_there_are_no_walls(place: Place, attempting: Path, folder: Path) -> None:
    """Or the test above would prove nothing. What is left then: no rights, no variables, limits."""
    harmless = {name: attempt for name, attempt in ATTEMPTS.items() if name != "a signal to the warden"}
    (folder / "attempts.json").write_text(json.dumps(harmless))
    got = reached(place.run(attempting, folder))
    assert {
        "a listening socket",
        "a Unix socket",
        "an abstract Unix socket",
        "a datagram",
        "a file in /tmp",
        "a file in shared memory",
        "a readable file elsewhere",
        "the mode of a file of the service",
        "the times of a file of the service",
        "the length of a file of the service",
        "the name of a file of the service",
        "a signal to the service",
        "the service's environment",
        "a limit of the service",
    } <= set(got)
    assert not {"the environment's secret", "root again", "being root", "groups", "rights of its own"} & set(got)


ALLOWED = """
import os, sys, tempfile, threading
open('note', 'w').write('x' * 1000)
with tempfile.NamedTemporaryFile() as file: file.write(b'x')
threading.Thread(target=print).start()
pid = os.fork()
if pid == 0: os._exit(7)
print(open(sys.argv[1] + '/program.py').read()[1:7], sys.argv[2:], sys.stdin.read(), os.waitpid(pid, 0)[1] >> 8)
print(os.environ['ASKED'], file=sys.stderr)
sys.exit(3)
"""


async def test_the_ordinary_is_allowed(folder: Path, program: Callable[[str], Path]) -> None:
    outcome = await sandbox.run(
        program(ALLOWED), folder, arguments=["a", "b c"], stdin=b"told", env={"ASKED": "given by name"}
    )
    assert outcome.stdout.split(b"\n")[-2:] == [b"import ['a', 'b c'] told 7", b""]
    assert (outcome.stderr_tail, outcome.exit_code, outcome.killed_for) == ("given by name\n", 3, "")
    assert not list(Path("/tmp").glob("sskai-sandbox-*/note"))


BOMBS = {
    "an endless loop": ("while True: pass", {"wall_seconds": 1}, "time"),
    "an endless loop by CPU": ("while True: pass", {"cpu_seconds": 1}, "time"),
    "sleep": ("import time; time.sleep(600)", {"wall_seconds": 1}, "time"),
    "deaf to signals": (
        "import signal, time\nfor n in range(1, 32): n in (9, 19) or signal.signal(n, signal.SIG_IGN)\ntime.sleep(600)",
        {"wall_seconds": 1},
        "time",
    ),
    "a fork bomb": ("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass", {"processes": 20}, "processes"),
    "a fork bomb of sessions": (
        "import os\nwhile True:\n  try: os.fork() and os._exit(0), os.setsid(), os.fork()\n  except OSError: pass",
        {"wall_seconds": 5, "processes": 20},
        None,
    ),
    "threads": (
        "import threading, time\nfor _ in range(25): threading.Thread(target=time.sleep, args=(600,)).start()",
        {"processes": 20},
        "processes",
    ),
    "memory": (
        "import time\nkept = []\nwhile True: kept.append(bytearray(b'x' * 2**24)); time.sleep(0.01)",
        {"memory_bytes": 300 * 2**20},
        "memory",
    ),
    "endless output": ("while True: print('x' * 1000)", {}, "output"),
    "endless errors": ("import sys\nwhile True: print('x' * 1000, file=sys.stderr)", {}, "output"),
}


@each_place
@pytest.mark.parametrize(("text", "limits", "killed_for"), BOMBS.values(), ids=BOMBS.keys())
def test_what_has_no_end_is_ended(
    place: Place,
    program: Callable[[str], Path],
    folder: Path,
    text: str,
    limits: dict[str, Any],
    killed_for: str | None,
) -> None:
    began = time.monotonic()
    outcome = place.run(program(text), folder, **{"wall_seconds": 20, **limits})
    assert time.monotonic() - began < 30
    if killed_for is None:
        # Its first process is gone at once, and takes the rest with it.
        assert (outcome.exit_code, outcome.killed_for) in ((0, ""), (-9, "processes"))
    else:
        assert outcome.killed_for == killed_for
        assert outcome.exit_code < 0
    assert len(outcome.stdout) <= Limits().output_bytes
    assert len(outcome.stderr_tail) <= sandbox.STDERR_TAIL_BYTES


REFUSED = {
    "address space": ("bytearray(2**40)", {}, "MemoryError"),
    "a large file": (
        "import os; os.truncate(os.open('big', os.O_CREAT | os.O_RDWR), 2**30)",
        {"file_bytes": 2**20},
        "File too large",
    ),
    "open files": ("import os\nwhile True: os.open('/dev/null', 0)", {}, "Too many open files"),
}


@each_place
@pytest.mark.parametrize(("text", "limits", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_too_much_fails_inside(
    place: Place, program: Callable[[str], Path], folder: Path, text: str, limits: dict[str, Any], words: str
) -> None:
    outcome = place.run(program(text), folder, **limits)
    assert words in outcome.stderr_tail
    assert (outcome.exit_code, outcome.killed_for) == (1, "")


@each_place
def test_the_disk_cannot_be_filled(place: Place, program: Callable[[str], Path], folder: Path) -> None:
    text = "import itertools\nfor n in itertools.count(): open(str(n), 'wb').write(b'x' * 2**20)"
    outcome = place.run(program(text), folder, folder_bytes=20 * 2**20, wall_seconds=20)
    assert "No space left" in outcome.stderr_tail or outcome.killed_for == "output"


@each_place
def test_a_service_that_closes_its_files_to_others_can_run_code_too(
    place: Place, program: Callable[[str], Path], folder: Path
) -> None:
    written = program("print('in')")
    before = os.umask(0o077)
    try:
        outcome = place.run(written, folder)
    finally:
        os.umask(before)
    assert (outcome.exit_code, outcome.stdout) == (0, b"in\n"), outcome.stderr_tail


async def test_a_cancelled_run_is_killed(program: Callable[[str], Path], folder: Path) -> None:
    began = folder / "program.py"
    task = asyncio.create_task(sandbox.run(program("import time; time.sleep(600)"), folder))

    def inside() -> bool:
        return any(str(began) in " ".join(each.cmdline()[3:4]) for each in _sandboxed())

    await wait_for(inside)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not inside()


def _sandboxed() -> list[psutil.Process]:
    found = []
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if each.cmdline()[1:3] == ["-I", "-B"]:
                found.append(each)
    return found


async def test_the_program_dies_with_the_service(program: Callable[[str], Path], folder: Path) -> None:
    text = f"import asyncio, sys; sys.path.append({str(ROOT)!r}); from pathlib import Path; from sskai import sandbox\n"
    path = program("import time; time.sleep(600)")
    text += f"asyncio.run(sandbox.run(Path({str(path)!r}), Path({str(folder)!r})))"
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", text), env={**os.environ, "TMPDIR": str(folder.parent)}
    )
    processes: list[psutil.Process] = []

    def started() -> bool:
        processes[:] = psutil.Process(service.pid).children(recursive=True)
        return len(processes) == 3

    await wait_for(started, limit_seconds=20)
    service.kill()
    await service.wait()
    gone, alive = psutil.wait_procs(processes, timeout=10)
    assert (len(gone), alive) == (3, [])


async def test_a_folder_that_is_closed_to_others_is_said(program: Callable[[str], Path], folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("without root the program keeps the user, who may read it")
    path = program("")
    folder.chmod(0o700)
    with pytest.raises(SandboxError, match=r"is closed to other users \(mode 700\).*chmod o\+rx"):
        await sandbox.run(path, folder)


async def test_without_walls_nothing_is_run_unless_that_is_said(
    monkeypatch: pytest.MonkeyPatch, program: Callable[[str], Path], folder: Path
) -> None:
    monkeypatch.setattr(sandbox, "hidden", lambda task, wall: "not here" if wall != "limits" else "")
    path = program("import os; print(os.getuid(), dict(os.environ).get('SSKAI_SECRET'))")
    with pytest.raises(SandboxError, match=r"not run here, for its walls cannot be had.*namespaces: not here"):
        await sandbox.run(path, folder)
    if os.getuid() == 0 and SYSTEM_PYTHON.exists():
        outcome = await sandbox.run(path, folder, walls=(*sandbox.CLOSED, "limits"), python=SYSTEM_PYTHON)
        assert outcome.walls == "limits"
        assert outcome.stdout.split()[0] != b"0"


@pytest.mark.skipif(os.getuid() != 0 or not SYSTEM_PYTHON.exists(), reason="becomes nobody, by the system's Python")
def test_where_no_namespaces_may_be_made_the_filters_stand(program: Callable[[str], Path], folder: Path) -> None:
    if not sandbox_walls.landlock_version():
        pytest.skip("this kernel has no Landlock")
    path = program("open('/etc/passwd')")
    outcome = as_nobody(path, folder, {}, sandbox.CLOSED, contained=True)
    assert (outcome.walls, outcome.exit_code) == ("filters", 1)
    assert "PermissionError" in outcome.stderr_tail
    with pytest.raises(SandboxError, match=r"namespaces: \[Errno 1\] unshare: Operation not permitted"):
        as_nobody(path, folder, {}, ["namespaces"], contained=True)


def test_elsewhere_than_on_linux_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sandbox_walls.platform, "system", lambda: "Darwin")
    with pytest.raises(SandboxError, match="on Linux only, not on Darwin"):
        asyncio.run(sandbox.run(tmp_path / "p.py", tmp_path))


async def test_many_run_at_once(folder: Path, program: Callable[[str], Path]) -> None:
    path = program("import os; print(os.getuid(), len([n for n in os.listdir('/proc') if n.isdigit()]))")
    outcomes = await asyncio.gather(*(sandbox.run(path, folder) for _ in range(4)))
    assert [each.exit_code for each in outcomes] == [0] * 4
    if os.getuid() == 0:
        assert len({each.stdout.split()[0] for each in outcomes}) == 4
    assert threading.active_count() < 50
