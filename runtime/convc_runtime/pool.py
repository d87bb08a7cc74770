"""The thread pool: native code of the model, fed with the operating system's services by address."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import os
import weakref
from collections.abc import Mapping

import numpy as np

from convc_runtime import cpu
from convc_runtime.errors import CpuError
from convc_runtime.memory import Mapping as CodeMapping

# futex, gettid, getcpu, sched_setaffinity: asm/unistd.h of each instruction set.
_SYSTEM_CALLS = {"x86-64": (202, 186, 309, 203), "aarch64": (98, 178, 168, 122)}
# linux/mman.h: the child of a fork sees zeros, and so a pool without threads.
_MADV_WIPEONFORK = 18
_FUNCTIONS = ("size", "create", "for", "destroy")
_SIZE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int32)
_CREATE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)
_SHARE_ALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_DESTROY = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Services(ctypes.Structure):
    """`convc_services` of convc.h."""

    _fields_ = (
        ("size", ctypes.c_uint64),
        ("thread_create", ctypes.c_void_p),
        ("thread_join", ctypes.c_void_p),
        ("wait", ctypes.c_void_p),
        ("wake", ctypes.c_void_p),
        ("system_call", ctypes.c_void_p),
        ("futex_number", ctypes.c_int64),
        ("gettid_number", ctypes.c_int64),
        ("getcpu_number", ctypes.c_int64),
        ("setaffinity_number", ctypes.c_int64),
        ("cpus", ctypes.c_uint64 * 16),
    )


class Pool:
    """Worker threads that live as long as this object. `address` is the pool, `function` its parallel_for.

    Small steps and entries run on the caller's thread, where `eager` is false (for tests).
    """

    eager = False

    def __init__(
        self, code: CodeMapping, symbols: Mapping[str, int], identifier: str, threads: int
    ) -> None:
        start = {n: code.address + symbols[f"{identifier}_pool_{n}"] for n in _FUNCTIONS}
        size = _SIZE(start["size"])(threads)
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # before Linux 4.14
            memory.madvise(_MADV_WIPEONFORK)
        self.address = int(np.frombuffer(memory, np.uint8).ctypes.data)
        self.function = start["for"]
        self._memory = memory
        self._threads = ctypes.c_int32.from_address(self.address)
        services = _services()  # which the pool copies, so it has to live until then
        _CREATE(start["create"])(self.address, ctypes.addressof(services), threads)
        if self.eager:
            share_all = code.address + symbols[f"{identifier}_pool_share_all"]
            _SHARE_ALL(share_all)(self.address)
        destroy = _DESTROY(start["destroy"])
        # The arguments keep code and memory mapped until the workers have ended.
        self.close = weakref.finalize(self, _destroy, destroy, self.address, memory, code)

    @property
    def threads(self) -> int:
        """Threads of the pool, the caller's included; 0 once closed, and in the child of a fork."""
        return self._threads.value


def _destroy(
    destroy: ctypes._CFunctionType, address: int, memory: mmap.mmap, code: CodeMapping
) -> None:
    destroy(address)


def _services() -> Services:
    machine = cpu.machine()
    if machine not in _SYSTEM_CALLS:
        known = ", ".join(_SYSTEM_CALLS)
        raise CpuError(f"threads are not supported on {machine}: expected {known}; use threads=1")
    futex, gettid, getcpu, setaffinity = _SYSTEM_CALLS[machine]
    services = Services(
        size=ctypes.sizeof(Services),
        thread_create=_libc("pthread_create"),
        thread_join=_libc("pthread_join"),
        system_call=_libc("syscall"),
        futex_number=futex,
        gettid_number=gettid,
        getcpu_number=getcpu,
        setaffinity_number=setaffinity,
    )
    for number in os.sched_getaffinity(0):
        if number < 1024:
            services.cpus[number // 64] |= 1 << number % 64
    return services


@functools.cache
def _libc(name: str) -> int:
    return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0
