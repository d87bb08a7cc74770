"""How many CPUs this process may use: quotas of control groups, from made-up files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from convc_runtime import cpu


def system(folder: Path, groups: str, files: dict[str, str]) -> Path:
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = folder / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


OLD = "5:devices:/\n2:cpu,cpuacct:/pod/box\n1:cpuset:/elsewhere\n0::/\n"


@pytest.mark.parametrize(
    ("groups", "files", "wanted"),
    [
        ("0::/box\n", {"box/cpu.max": "150000 100000\n"}, 2),
        ("0::/box\n", {"box/cpu.max": "max 100000\n"}, None),
        ("0::/pod/box\n", {"pod/cpu.max": "300000 100000", "pod/box/cpu.max": "max 100000"}, 3),
        ("0::/pod/box\n", {"pod/cpu.max": "100000 100000", "pod/box/cpu.max": "400000 100000"}, 1),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),  # a container's own root
        ("0::/../../box\n", {"cpu.max": "250000 100000\n"}, 3),  # seen from a namespace
        (OLD, {"cpu/pod/box/cpu.cfs_quota_us": "400000", "cpu/pod/box/cpu.cfs_period_us": "100000"}, 4),
        (OLD, {"cpu/pod/box/cpu.cfs_quota_us": "-1", "cpu/pod/box/cpu.cfs_period_us": "100000"}, None),
        (OLD, {"cpu/cpu.cfs_quota_us": "20000", "cpu/cpu.cfs_period_us": "10000"}, 2),
        ("0::/box\n", {"box/cpu.max": "damaged"}, None),
        ("damaged", {}, None),
        ("", {}, None),
    ],
)  # fmt: skip
def test_the_least_quota_counts(
    tmp_path: Path, groups: str, files: dict[str, str], wanted: int | None
) -> None:
    assert cpu.cgroup_quota(system(tmp_path, groups, files)) == wanted


def test_no_more_cpus_than_the_quota_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    for quota, wanted in ((None, 64), (1, 1), (3, 3), (100, 64)):
        monkeypatch.setattr(cpu, "cgroup_quota", lambda quota=quota: quota)
        assert cpu.available_cpus() == wanted
