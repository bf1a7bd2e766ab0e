"""What the Linux kernel offers to shut a process in: namespaces, Landlock, seccomp, resource limits. Only the stdlib.

`sandbox_warden.py` calls these in a fresh process without threads. They act on the calling process, and for good.
Sources: namespaces(7), mount_setattr(2), pivot_root(2), landlock(7), seccomp(2) and the kernel's uapi headers.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_NEW = 0x7E020000  # all of them that clone(2) takes

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MNT_DETACH = 2
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 1, 2, 4

# x86_64, aarch64 (asm/unistd_64.h, asm-generic/unistd.h); 0: it does not exist there.
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, AUDIT_ARCH
_PIVOT_ROOT, _MOUNT_SETATTR = (155, 41), 442
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_CLONE, _CLONE3, _X32 = (56, 220), 435, 0x40000000
# What reaches the network, another process, the kernel or a mount. io_uring opens sockets past a filter.
FORBIDDEN = {
    "socket": (41, 198),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "kill": (62, 129),
    "tkill": (200, 130),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "modify_ldt": (154, 0),
    "iopl": (172, 0),
    "ioperm": (173, 0),
}
# What Landlock does not see (truncate before its version 3): a program that keeps the service's user must not close,
# date or cut the service's files.
UNSEEN_BY_LANDLOCK = {
    "truncate": (76, 45),
    "chmod": (90, 0),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, 0),
    "fchown": (93, 55),
    "lchown": (94, 0),
    "fchownat": (260, 54),
    "utime": (132, 0),
    "utimes": (235, 0),
    "futimesat": (261, 0),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
}
# Allowed on the process itself, named by 0 or its id: another one of the same user must not be reached.
SELF_ONLY = {
    "tgkill": (234, 131),  # abort() and raise()
    "prlimit64": (302, 261),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
}

_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT = 0, 4, 16  # in struct seccomp_data

READ = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, read a folder
_FILE_ACCESS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # what a rule on a file may speak of
_ACCESS_BITS = {1: 13, 2: 14, 3: 15, 4: 15}  # rights known to a version of Landlock; 16 from version 5 on


def supported() -> str:
    """Why this computer cannot shut anything in; empty: it can."""
    if platform.system() != "Linux":
        return f"untrusted code runs on Linux only, not on {platform.system()}"
    if platform.machine() not in MACHINES:
        return f"no table of system calls for {platform.machine()}: one of {', '.join(MACHINES)} is needed"
    return ""


def prctl(option: int, argument: int, second: int = 0) -> None:
    _checked(_LIBC.prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(second), 0, 0), f"prctl {option}")


def unshare(flags: int) -> None:
    _checked(_LIBC.unshare(flags), "unshare")


def map_user(uid: int, gid: int) -> None:
    """In a new user namespace: this user, and nobody else."""
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        Path("/proc/self", name).write_text(text)


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    result = _LIBC.mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
    )
    _checked(result, f"mount {kind or source} at {target}")


def restrict_mount(target: str, attributes: int, *, recursive: bool) -> None:
    """mount_setattr(2), Linux 5.12: unlike a remount it keeps what the source's mount forbids already."""
    change = struct.pack("=4Q", attributes, 0, 0, 0)
    flags = AT_RECURSIVE if recursive else 0
    result = _LIBC.syscall(_MOUNT_SETATTR, AT_FDCWD, target.encode(), flags, change, ctypes.c_size_t(len(change)))
    _checked(result, f"mount_setattr {target}")


def bind(source: str, root: str, *, device: bool = False) -> None:
    """Show a file or folder of the old tree, readable only, at its own place in the new one."""
    target = root + source
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
    mount(source, target, flags=MS_BIND | MS_REC)
    closed = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | (0 if device else MOUNT_ATTR_NODEV)
    restrict_mount(target, closed, recursive=True)


def enter_root(root: str) -> None:
    """Make `root` the tree, and let go of the old one."""
    os.chdir(root)
    column, _ = MACHINES[platform.machine()]
    _checked(_LIBC.syscall(_PIVOT_ROOT[column], b".", b"."), "pivot_root")
    _checked(_LIBC.umount2(b".", MNT_DETACH), "umount2")
    os.chdir("/")
    restrict_mount("/", MOUNT_ATTR_RDONLY, recursive=False)


def links(path: str) -> Iterator[tuple[str, str]]:
    """The symbolic links on the way to a path: where each stands, and where it leads in the end."""
    here = "/"
    for part in Path(path).parts[1:]:
        step = os.path.join(here, part)
        here = os.path.realpath(step)
        if os.path.islink(step):
            yield step, here


def limit_resources(limits: Iterable[tuple[int, int, int]]) -> None:
    """`limits`: resource, soft, hard; never more than what holds already."""
    for kind, soft, hard in limits:
        ceiling = resource.getrlimit(kind)[1]
        most = hard if ceiling == resource.RLIM_INFINITY else min(hard, ceiling)
        resource.setrlimit(kind, (min(soft, most), most))


def landlock_version() -> int:
    """0: this kernel has none, or it is switched off."""
    version: int = _LIBC.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    return max(version, 0)


def allow_only(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Landlock: open nothing but these, trace nothing outside, connect nowhere. PR_SET_NO_NEW_PRIVS must be set."""
    version = landlock_version()
    if not version:
        raise OSError(errno.EOPNOTSUPP, "this kernel has no Landlock")
    everything = (1 << _ACCESS_BITS.get(version, 16)) - 1
    network = 0b11 if version >= 4 else 0  # bind and connect by TCP
    scoped = 0b11 if version >= 6 else 0  # abstract Unix sockets and signals
    wanted = struct.pack("=3Q", everything, network, scoped)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _LIBC.syscall(_LANDLOCK_CREATE, wanted, ctypes.c_size_t(len(wanted)), 0)
    _checked(ruleset, "landlock_create_ruleset")
    for paths, access in ((readable, READ), (writable, everything)):
        for path in paths:
            _allow(ruleset, path, access & everything)
    _checked(_LIBC.syscall(_LANDLOCK_RESTRICT, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def _allow(ruleset: int, path: str, access: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    if not os.path.isdir(path):
        access &= _FILE_ACCESS
    rule = struct.pack("=Qi", access, place)
    _checked(_LIBC.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0), f"landlock_add_rule {path}")
    os.close(place)


def forbid_calls(own_id: int, *more: Mapping[str, tuple[int, int]]) -> None:
    """seccomp: what FORBIDDEN (and `more`) names fails with EPERM, in this process and all that it starts."""
    program = filter_program(platform.machine(), own_id, FORBIDDEN, *more)
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    pointer = ctypes.create_string_buffer(header, len(header))
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(pointer))


def filter_program(machine: str, own_id: int, *forbidden: Mapping[str, tuple[int, int]]) -> bytes:
    """The filter as classic BPF: 8 bytes an instruction (code, jump if true, jump if false, operand)."""
    column, architecture = MACHINES[machine]
    lines = [
        # Another architecture's calls have other numbers.
        *((_LOAD, 0, 0, _ARCH_AT), (_IF_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)),
        *((_LOAD, 0, 0, _NUMBER_AT), (_IF_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _ERRNO | errno.EPERM)),
        # Its flags lie in memory, which a filter cannot see; the C library then takes clone.
        *((_IF_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)),
    ]
    for numbers in chain.from_iterable(table.values() for table in forbidden):
        if numbers[column]:
            lines += [(_IF_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    for numbers in SELF_ONLY.values():
        lines += [
            (_IF_EQUAL, 0, 5, numbers[column]),
            (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
            (_IF_EQUAL, 1, 0, own_id),
            (_IF_EQUAL, 0, 1, 0),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        ]
    lines += [
        (_IF_EQUAL, 0, 4, _CLONE[column]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_IF_ANY_BIT, 0, 1, CLONE_NEW),
        (_RETURN, 0, 0, _ERRNO | errno.EPERM),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _checked(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
