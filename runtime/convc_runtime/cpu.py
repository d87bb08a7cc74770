"""What this machine is: instruction set, CPU features in LLVM's spelling, and how many CPUs we may use."""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path

# /proc/cpuinfo's flag -> LLVM's feature, where they differ by more than underscores.
_SPELLING = {
    "pni": "sse3",
    "bmi1": "bmi",
    "rdrand": "rdrnd",
    "pclmulqdq": "pclmul",
    "sha_ni": "sha",
    "lahf_lm": "sahf",
    "3dnowprefetch": "prfchw",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "avx512_vnni": "avx512vnni",
    "avx512_bf16": "avx512bf16",
    "avx512_fp16": "avx512fp16",
    "avx512_vbmi2": "avx512vbmi2",
    "avx512_bitalg": "avx512bitalg",
    "avx512_vpopcntdq": "avx512vpopcntdq",
    "avx_vnni": "avxvnni",
    "amx_tile": "amx-tile",
    "amx_int8": "amx-int8",
    "amx_bf16": "amx-bf16",
    "abm": "lzcnt",
    "asimd": "neon",
    "asimddp": "dotprod",
    "asimdhp": "fullfp16",
}
_MACHINES = {"x86_64": "x86-64", "AMD64": "x86-64", "aarch64": "aarch64", "arm64": "aarch64"}


def machine() -> str:
    """The instruction set of this machine: x86-64, aarch64, or the system's own name for it."""
    return instruction_set(platform.machine())


def instruction_set(name: str) -> str:
    """Our name of an instruction set (x86-64, aarch64), whatever a system or a compiler calls it; else that name."""
    return _MACHINES.get(name, name)


@functools.cache
def features() -> frozenset[str]:
    """The features of this machine's CPUs that the kernel lets programs use, in LLVM's spelling."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, flags = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(_SPELLING.get(f, f) for f in flags.split())
    return frozenset()


def available_cpus() -> int:
    """CPUs that this process may use: its affinity mask, and the least quota of its control groups rounded up."""
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = cgroup_quota()
    return max(1, count if quota is None else min(count, quota))


def cgroup_quota(system: Path = Path("/")) -> int | None:
    """The CPUs that control groups leave this process, rounded up; None without a quota.

    A group's quota holds for all below it, so that the least of our own group's and its parents' counts. `system` is
    where `proc` and `sys` are. Files: cpu.max of version 2 (Linux: Documentation/admin-guide/cgroup-v2.rst), and
    cpu.cfs_quota_us of version 1 (scheduler/sched-bwc.rst).
    """
    found = [quota for group in _cgroups(system) if (quota := _quota(group)) is not None]
    return min(found, default=None)


def _quota(group: Path) -> int | None:
    """A group's own quota in CPUs, by either version's files."""
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        micros = int((group / "cpu.cfs_quota_us").read_text())
        period = (group / "cpu.cfs_period_us").read_text()
        return None if micros < 0 else -(-micros // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _cgroups(system: Path) -> list[Path]:
    """Folders that may hold a quota of ours: our own groups' and their parents', up to the roots of both versions."""
    roots = [system / "sys/fs/cgroup", system / "sys/fs/cgroup/cpu"]
    groups = set(roots)
    try:
        for line in (system / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            root = roots[1] if controllers else roots[0]
            parts = [p for p in path.split("/") if p not in ("", "..")]
            groups |= {root.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)}
    except (OSError, ValueError):
        pass
    return sorted(groups)
