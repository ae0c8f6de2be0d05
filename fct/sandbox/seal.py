"""Take from this process, for good, what computing does not need: files, network, other processes. No privileges are needed for it.

Landlock (Linux 5.13) refuses every file, and from 6.7 on TCP; a seccomp filter refuses every system call that is not on a list of those
that computing uses. Each is used where the kernel has it, the filter where the library libseccomp is installed, which knows the numbers of
calls on every processor. Whether it worked is tried, not believed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import socket
import struct
import sys
from contextlib import suppress

NO_NEW_PRIVS = 38  # <linux/prctl.h>
CREATE_RULESET, RESTRICT_SELF = 444, 446  # the same on every processor
VERSION = 1  # of landlock_create_ruleset: asks which it is
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # version → how many kinds of access to files it knows, as bits from 0
TCP = 4  # version from which it knows bind and connect
SCOPES = 6  # version from which it keeps signals and abstract sockets inside
ALLOW, ERRNO = 0x7FFF0000, 0x00050000  # <linux/seccomp.h>
TSYNC = 4  # SCMP_FLTATR_CTL_TSYNC: for every thread there is
MASKED_EQUAL = 7  # SCMP_CMP_MASKED_EQ
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
    "prlimit64",
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
        libc, library = ctypes.CDLL(None, use_errno=True), None
        with suppress(OSError):
            library = ctypes.CDLL("libseccomp.so.2")  # now: soon no file can be opened
        if libc.prctl(NO_NEW_PRIVS, 1, 0, 0, 0) == 0:
            _landlock(libc)
            if library is not None:
                _filter(library)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return {"files": not _opens(), "network": not _connects(), "processes": not _forks()}


def _landlock(libc: ctypes.CDLL) -> bool:
    version = libc.syscall(CREATE_RULESET, None, 0, VERSION)
    if version < 1:
        return False
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
        number = library.seccomp_syscall_resolve_name(
            b"clone3"
        )  # its flags lie in memory, where a filter cannot look: libc then uses clone
        if number >= 0:
            fine &= library.seccomp_rule_add_array(rules, ERRNO | errno.ENOSYS, number, 0, None) == 0
        return bool(fine and library.seccomp_load(rules) == 0)
    finally:
        library.seccomp_release(rules)


def _opens() -> bool:
    for path in (sys.executable, os.devnull, "/"):
        with suppress(OSError):
            os.close(os.open(path, os.O_RDONLY))
            return True
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
