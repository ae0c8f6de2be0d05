"""Take from this process, for good, what computing does not need: files, network, other processes. No privileges are needed for it.

Landlock (Linux 5.13) refuses every file, and from 6.7 on TCP; a seccomp filter refuses every system call that is not on a list of those
that computing uses. Each is used where the kernel has it, the filter where the library libseccomp is installed, which knows the numbers of
calls on every processor. Where either is missing, namespaces of its own (user, mount, network, ipc) leave the process a root without a file
and a network without a device. Whether it worked is tried, not believed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import stat
import struct
import sys
from contextlib import suppress
from pathlib import Path

NO_NEW_PRIVS = 38  # <linux/prctl.h>
CREATE_RULESET, RESTRICT_SELF = 444, 446  # the same on every processor
VERSION = 1  # of landlock_create_ruleset: asks which it is
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # version → how many kinds of access to files it knows, as bits from 0
TCP = 4  # version from which it knows bind and connect
SCOPES = 6  # version from which it keeps signals and abstract sockets inside
NEW_MOUNTS, NEW_IPC, NEW_USER, NEW_NETWORK = 0x00020000, 0x08000000, 0x10000000, 0x40000000  # <linux/sched.h>
READ_ONLY, NO_SUID, NO_DEVICES, NO_EXEC, RECURSIVE, PRIVATE = 1, 2, 4, 8, 1 << 14, 1 << 18  # <sys/mount.h>
DETACH = 2  # MNT_DETACH
CAPABILITIES = 0x20080522  # <linux/capability.h>, version 3: 64 of them in three sets
ALLOW, ERRNO = 0x7FFF0000, 0x00050000  # <linux/seccomp.h>
TSYNC = 4  # SCMP_FLTATR_CTL_TSYNC: for every thread there is
EQUAL, MASKED_EQUAL = 4, 7  # SCMP_CMP_EQ, SCMP_CMP_MASKED_EQ
CLONE_THREAD = 0x00010000
# what Python, torch and their threads call while they compute on memory that they have
CALLS = [
    "read",
    "write",
    "readv",
    "writev",
    "recvfrom",
    "sendto",
    "recvmsg",
    "sendmsg",
    "close",
    "shutdown",
    "fstat",
    "lseek",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "mmap",
    "mprotect",
    "munmap",
    "mremap",
    "madvise",
    "brk",
    "membarrier",
    "futex",
    "futex_waitv",
    "sched_yield",
    "sched_getaffinity",
    "sched_setaffinity",
    "getcpu",
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "nanosleep",
    "gettimeofday",
    "times",
    "getrandom",
    "sysinfo",
    "uname",
    "getrusage",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sigaltstack",
    "set_robust_list",
    "get_robust_list",
    "rseq",
    "set_tid_address",
    "restart_syscall",
    "getpid",
    "getppid",
    "gettid",
    "exit",
    "exit_group",
    "getrlimit",
    "prctl",
    "arch_prctl",
    "get_mempolicy",
]


def seal(*, gpu: bool = False) -> dict[str, bool]:
    """Seal this process, which must have no other thread, and try whether it is.

    Args:
        gpu: leave out the filter: a driver opens devices and talks to them. Files can be read then.

    Returns:
        ``files``, ``network``, ``processes``: whether trying to have one failed.
    """
    if sys.platform == "linux" and not gpu:
        libc, library = ctypes.CDLL(None, use_errno=True), _library()  # now: soon no file can be opened
        if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
            version = _version(libc)
            if version < 1 or library is None:  # before Landlock, which refuses mounts
                _namespaces(libc)
            if version >= 1:
                _landlock(libc, version)
            if library is not None:
                _filter(library)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return {"files": not _finds(), "network": not _connects(), "processes": not _forks()}


def _library() -> ctypes.CDLL | None:
    with suppress(OSError):
        return ctypes.CDLL("libseccomp.so.2")
    return None


def _version(libc: ctypes.CDLL) -> int:
    """Landlock's; below 1 where there is none."""
    return int(libc.syscall(CREATE_RULESET, None, 0, VERSION))


def _namespaces(libc: ctypes.CDLL) -> bool:
    """Users, mounts, network and ipc of its own; the root is an empty folder, and no capability is left to change that."""

    def call(name: str, *given: object) -> None:
        if getattr(libc, name)(*given) != 0:
            raise OSError(ctypes.get_errno(), name)

    user, group = os.geteuid(), os.getegid()
    try:
        call("unshare", NEW_USER | NEW_MOUNTS | NEW_IPC | NEW_NETWORK)
    except OSError:  # EINVAL where there are other threads, which would have kept files and network
        return False
    try:
        for name, line in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path("/proc/self", name).write_text(line)
        for number in map(int, os.listdir("/proc/self/fd")):
            with suppress(OSError):  # the listing's own is closed already
                if stat.S_ISDIR(os.fstat(number).st_mode):
                    os.close(number)  # a way past the new root
        call("mount", None, b"/", None, RECURSIVE | PRIVATE, None)
        call("mount", b"none", b"/proc", b"tmpfs", READ_ONLY | NO_SUID | NO_DEVICES | NO_EXEC, b"size=4k,mode=555")
        os.chdir("/proc")
        call("pivot_root", b".", b".")  # the old root now lies over the new one: pivot_root(2)
        call("umount2", b".", DETACH)
        os.chdir("/")
        return True
    except OSError:
        return False
    finally:
        libc.capset(struct.pack("=Ii", CAPABILITIES, 0), bytes(24))


def _landlock(libc: ctypes.CDLL, version: int) -> bool:
    bits = max(count for since, count in FILE_RIGHTS.items() if since <= version)
    rules = struct.pack("<QQQ", (1 << bits) - 1, 0b11 if version >= TCP else 0, 0b11 if version >= SCOPES else 0)
    size = 24 if version >= SCOPES else 16 if version >= TCP else 8
    ruleset = libc.syscall(CREATE_RULESET, rules, size, 0)
    if ruleset < 0:
        return False
    try:  # no rule is added: nothing is allowed
        return bool(libc.syscall(RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


class _Comparison(ctypes.Structure):
    _fields_ = (("argument", ctypes.c_uint), ("how", ctypes.c_int), ("one", ctypes.c_uint64), ("other", ctypes.c_uint64))


def _filter(library: ctypes.CDLL) -> bool:
    library.seccomp_init.restype = ctypes.c_void_p
    for name in ("seccomp_rule_add_array", "seccomp_attr_set", "seccomp_load", "seccomp_release"):
        getattr(library, name).argtypes = {
            "seccomp_rule_add_array": (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p),
            "seccomp_attr_set": (ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32),
        }.get(name, (ctypes.c_void_p,))
    rules = library.seccomp_init(ctypes.c_uint32(ERRNO | errno.EPERM))
    if not rules:
        return False
    try:
        fine = library.seccomp_attr_set(rules, TSYNC, 1) == 0
        for name in CALLS:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number >= 0:  # a processor that lacks it
                fine &= library.seccomp_rule_add_array(rules, ALLOW, number, 0, None) == 0
        thread = _Comparison(0, MASKED_EQUAL, CLONE_THREAD, CLONE_THREAD)
        number = library.seccomp_syscall_resolve_name(b"clone")
        fine &= library.seccomp_rule_add_array(rules, ALLOW, number, 1, ctypes.byref(thread)) == 0
        itself = _Comparison(0, EQUAL, 0, 0)  # process 0: another one's limits could be set, down to its end
        number = library.seccomp_syscall_resolve_name(b"prlimit64")
        fine &= library.seccomp_rule_add_array(rules, ALLOW, number, 1, ctypes.byref(itself)) == 0
        # the flags of clone3 lie in memory, where a filter cannot look: libc then uses clone
        number = library.seccomp_syscall_resolve_name(b"clone3")
        if number >= 0:
            fine &= library.seccomp_rule_add_array(rules, ERRNO | errno.ENOSYS, number, 0, None) == 0
        return bool(fine and library.seccomp_load(rules) == 0)
    finally:
        library.seccomp_release(rules)


def _finds() -> bool:
    """Whether a file is there to be looked at: opening is not all, Landlock leaves changing modes and, once, lengths open."""
    for path in (sys.executable, os.devnull):
        with suppress(OSError):
            os.stat(path)
            return True
    with suppress(OSError):
        return bool(os.listdir("/"))
    return False


def _connects() -> bool:
    """Whether a datagram can be sent, or a connection be tried."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.connect(("127.0.0.1", 9))
        return True
    return False


def _forks() -> bool:
    try:
        child = os.fork()
    except OSError:
        return False
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True
