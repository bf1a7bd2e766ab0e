"""The program that `sandbox.run` starts: it builds the walls, starts the untrusted program inside, watches and ends it.

Three processes. The outermost leaves the service's namespaces and passes on its stop signal. The warden is the first
process of the new PID namespace (so that all inside dies with it), or the reaper of orphans where there is none. The
innermost gives up everything and becomes the untrusted program. Only the stdlib, and one thread.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NoReturn

from sskai import sandbox_walls as walls

TICK_SECONDS = 0.1
MAX_INODES = 20_000
# Of systemd's dynamic users: within what containers map, and nobody's. One a run, so that RLIMIT_NPROC counts one run.
FIRST_UID, UIDS = 61184, 4336
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
FACTS = ("/proc/cpuinfo", "/proc/meminfo")
_SIGNALS = {signal.SIGCHLD, signal.SIGTERM}


def main() -> NoReturn:
    """`sys.argv[1]`: what to do, as JSON (see sandbox.py). One JSON document of the end goes to its file `status`."""
    task = json.loads(sys.argv[1])
    os.umask(0o022)  # the folders of the new tree are for another user to walk through, whatever the service's mask is
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    walls.prctl(walls.PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != task["parent"]:
        os._exit(1)
    if os.getuid() == 0:
        task["uid"] = FIRST_UID + os.getpid() % UIDS
        if task["walls"] != "namespaces":
            os.chown(task["work"], task["uid"], task["uid"])
    else:
        task["others"] = _threads_of(os.getuid())
    try:
        if task["walls"] == "namespaces":
            _leave_namespaces()
        warden = os.fork()
    except OSError as error:
        _report(task, {"unusable": str(error)})
        os._exit(0)
    if warden == 0:
        _be_warden(task)
    while True:
        if signal.sigwait(_SIGNALS) == signal.SIGTERM:
            # The first process of a namespace hears no signal from outside but this one.
            os.kill(warden, signal.SIGKILL if task["walls"] == "namespaces" else signal.SIGTERM)
        ended, _ = os.waitpid(warden, os.WNOHANG)
        if ended:
            os._exit(0)


def _leave_namespaces() -> None:
    uid, gid = os.getuid(), os.getgid()
    flags = walls.CLONE_NEWNS | walls.CLONE_NEWNET | walls.CLONE_NEWPID | walls.CLONE_NEWIPC | walls.CLONE_NEWUTS
    walls.unshare(flags if uid == 0 else flags | walls.CLONE_NEWUSER)
    if uid != 0:
        walls.map_user(uid, gid)


def _be_warden(task: dict[str, Any]) -> NoReturn:
    whole = task["walls"] == "namespaces"  # of /proc, everything but the warden is inside
    try:
        walls.prctl(walls.PR_SET_PDEATHSIG, signal.SIGKILL if whole else signal.SIGTERM)
        if whole:
            _build_root(task)
        else:
            walls.prctl(walls.PR_SET_CHILD_SUBREAPER, 1)
        failed, broken = os.pipe()  # closed by a successful exec
        child = os.fork()
        if child == 0:
            _become_program(task, broken)
        os.close(broken)
        if reason := os.read(failed, 4096):
            _report(task, {"unusable": reason.decode(errors="replace")})
        else:
            _report(task, _watch(task, child, whole=whole))
    except OSError as error:
        _report(task, {"unusable": str(error)})
    os._exit(0)


def _build_root(task: dict[str, Any]) -> None:
    """A tree that holds the named files, readable only, and one writable folder of limited size."""
    root = task["work"]
    walls.mount("none", "/", flags=walls.MS_REC | walls.MS_PRIVATE)
    walls.mount("tmpfs", root, "tmpfs", walls.MS_NOSUID | walls.MS_NODEV, "size=1m,mode=755")
    shown: list[str] = []
    for path in task["readable"]:
        real = os.path.realpath(path)
        if not any(real == other or real.startswith(other + "/") for other in shown):
            walls.bind(real, root)
            shown.append(real)
    for path in task["readable"]:
        for place, target in walls.links(path):
            if not os.path.lexists(root + place):
                os.makedirs(os.path.dirname(root + place), exist_ok=True)
                os.symlink(target, root + place)
    for device in DEVICES:
        walls.bind(device, root, device=True)
    os.makedirs(root + "/proc", exist_ok=True)
    closed = walls.MS_NOSUID | walls.MS_NODEV
    walls.mount("proc", root + "/proc", "proc", closed | walls.MS_NOEXEC | walls.MS_RDONLY)
    os.makedirs(root + root)
    # Without root the folder is this user's as it is.
    owned = f",uid={task['uid']},gid={task['uid']}" if "uid" in task else ""
    size = f"size={task['folder_bytes']},nr_inodes={MAX_INODES},mode=700{owned}"
    walls.mount("tmpfs", root + root, "tmpfs", closed, size)
    walls.enter_root(root)


def _become_program(task: dict[str, Any], broken: int) -> NoReturn:
    try:
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and exec would keep ignored
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.chdir(task["work"])
        os.umask(0o077)
        walls.limit_resources(_limits(task))
        if "uid" in task:
            os.setgroups([])
            os.setresgid(task["uid"], task["uid"], task["uid"])
            os.setresuid(task["uid"], task["uid"], task["uid"])
        # After the change of user, which clears it.
        walls.prctl(walls.PR_SET_PDEATHSIG, signal.SIGKILL)
        walls.prctl(walls.PR_SET_NO_NEW_PRIVS, 1)
        _close_files(broken)
        if task["walls"] == "filters":
            readable = [path for path in (*task["readable"], *FACTS) if os.path.exists(path)]
            walls.allow_only(readable, [task["work"], *DEVICES])
            walls.forbid_calls(os.getpid(), walls.UNSEEN_BY_LANDLOCK)
        elif task["walls"] == "namespaces":
            walls.forbid_calls(os.getpid())
        os.execve(task["argv"][0], task["argv"], task["env"])  # noqa: S606 (no shell is wanted)
    except OSError as error:
        os.write(broken, str(error).encode()[:4096])
    os._exit(127)


def _close_files(broken: int) -> None:
    """All but standard input, output and error. `broken` closes at the exec."""
    flags = fcntl.fcntl(broken, fcntl.F_GETFD)
    fcntl.fcntl(broken, fcntl.F_SETFD, flags | fcntl.FD_CLOEXEC)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    os.closerange(3, broken)
    os.closerange(broken + 1, max(most, broken + 1, 4096))


def _limits(task: dict[str, Any]) -> list[tuple[int, int, int]]:
    # Without a user of its own the service's threads count too (before Linux 5.14 even across user namespaces).
    processes = task["processes"] + 8 + (0 if "uid" in task else task["others"])
    return [
        (resource.RLIMIT_CPU, task["cpu_seconds"], task["cpu_seconds"] + 1),
        (resource.RLIMIT_AS, task["address_space_bytes"], task["address_space_bytes"]),
        (resource.RLIMIT_FSIZE, task["file_bytes"], task["file_bytes"]),
        (resource.RLIMIT_NPROC, processes, processes),
        (resource.RLIMIT_NOFILE, task["open_files"], task["open_files"]),
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
    ]


def _watch(task: dict[str, Any], child: int, *, whole: bool) -> dict[str, Any]:
    """Until the program ends or has to. Nothing of it lives when this returns."""
    until = time.monotonic() + task["wall_seconds"]
    reason = ""
    while True:
        caught = signal.sigtimedwait(_SIGNALS, TICK_SECONDS)
        ended = _reap(child)
        if ended is None and not reason:
            if caught is not None and caught.si_signo == signal.SIGTERM:
                reason = "stopped"
            elif time.monotonic() > until:
                reason = "time"
            else:
                reason = _excess(task, _members(whole=whole))
        if ended is not None or reason:
            _kill_all(whole=whole)
            code, cpu_seconds = _reap(child, all_of_them=True) or ended or (-signal.SIGKILL, 0.0)
            return {"exit_code": code, "killed_for": reason or _told_by(code, cpu_seconds, task)}


def _told_by(code: int, cpu_seconds: float, task: dict[str, Any]) -> str:
    """What the kernel killed for. SIGKILL comes from nobody else: the program may send no signals."""
    if code == -signal.SIGXCPU or (code == -signal.SIGKILL and cpu_seconds >= task["cpu_seconds"]):
        return "time"
    return "memory" if code == -signal.SIGKILL else ""


def _reap(child: int, *, all_of_them: bool = False) -> tuple[int, float] | None:
    """Bury who has died, or wait until nobody is left. Exit code and CPU seconds of `child`, if it was among them."""
    found = None
    with suppress(ChildProcessError):
        while True:
            pid, status, usage = os.wait3(0 if all_of_them else os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                found = os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime
    return found


def _excess(task: dict[str, Any], members: Iterable[int]) -> str:
    """Which limit the processes together are over, if any."""
    threads = memory = 0
    for pid in members:
        with suppress(OSError):
            facts = _status(pid)
            threads += facts.get("Threads", 0)
            memory += (facts.get("RssAnon", 0) + facts.get("RssShmem", 0)) * 1024
    if threads > task["processes"]:
        return "processes"
    if memory > task["memory_bytes"]:
        return "memory"
    # In a namespace the folder is a file system of limited size.
    if task["walls"] != "namespaces" and _folder_bytes(task["work"]) > task["folder_bytes"]:
        return "output"
    return ""


def _members(*, whole: bool) -> list[int]:
    everybody = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    if whole:
        return [pid for pid in everybody if pid != 1]
    children: dict[int, list[int]] = {}
    for pid in everybody:
        with suppress(OSError):
            children.setdefault(_status(pid)["PPid"], []).append(pid)
    found, look = [], [os.getpid()]
    while look:
        below = children.get(look.pop(), [])
        found += below
        look += below
    return found


def _status(pid: int) -> dict[str, int]:
    """The numbers of /proc/PID/status; sizes in KiB."""
    with open(f"/proc/{pid}/status", "rb") as file:
        pairs = (line.split(b":", 1) for line in file.read().splitlines() if b":" in line)
        values = {name.decode(errors="replace"): value.split() for name, value in pairs}
    return {name: int(value[0]) for name, value in values.items() if value and value[0].isdigit()}


def _threads_of(uid: int) -> int:
    threads = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                facts = _status(int(name))
                threads += facts["Threads"] if facts["Uid"] == uid else 0
    return threads


def _folder_bytes(folder: str) -> int:
    """Of its first files; as many as would be too many count as too much."""
    size = count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            count += 1
            with suppress(OSError):
                size += os.lstat(os.path.join(place, name)).st_blocks * 512
        if count > MAX_INODES:
            return sys.maxsize
    return size


def _kill_all(*, whole: bool) -> None:
    if whole:
        with suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)  # all of the namespace but its first process
        return
    # What is stopped cannot fork: first stop until nobody new appears, then kill.
    stopped: set[int] = set()
    while fresh := set(_members(whole=False)) - stopped:
        for pid in fresh:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        stopped |= fresh
    for pid in stopped:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _report(task: dict[str, Any], end: dict[str, Any]) -> None:
    os.write(task["status"], json.dumps(end).encode())
