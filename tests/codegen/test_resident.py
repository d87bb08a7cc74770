"""Memory given back between compilations: what may be given back, and that LLVM goes on afterwards."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from convc.codegen import llvmc, resident
from convc.target import TARGETS

SMAPS = """\
7f00-7f10 r-xp 00001000 fd:00 12 /usr/lib/libllvmlite.so
Rss:                 120 kB
Anonymous:             0 kB
VmFlags: rd ex mr
7f10-7f20 r--p 00011000 fd:00 12 /usr/lib/libllvmlite.so
Anonymous:             8 kB
7f20-7f30 rw-p 00021000 fd:00 12 /usr/lib/libllvmlite.so
Anonymous:             0 kB
7f30-7f40 r--p 00031000 fd:00 12 /usr/lib/llvmlite/other name.so
Anonymous:             0 kB
7f40-7f50 r-xp 00000000 00:00 0
Anonymous:             0 kB
7f50-7f60 ---p 00031000 fd:00 12 /usr/lib/libllvmlite.so
Anonymous:             0 kB
7f60-7f70 r--p 00041000 fd:00 12 /usr/lib/libllvmlite.so
Anonymous:             0 kB
Swap:                  8 kB
7f70-7f80 r--p 00051000 fd:00 12 /usr/lib/libllvmlite.so
Rss:                   8 kB
"""


def test_only_unchanged_pages_of_the_library_are_given_back() -> None:
    found = list(resident.unchanged(SMAPS.splitlines(), "llvmlite"))
    assert found == [resident.Mapping(0x7F00, 0x7F10, "r-xp", "/usr/lib/libllvmlite.so", 0)]


def test_names_of_other_mapped_files_may_be_any_bytes() -> None:
    other = b"7e00-7e10 r--p 00000000 fd:00 13 /data/\xff\x0c\xc2\x85 x\nAnonymous:  0 kB\n"
    found = list(resident.unchanged(resident.lines_of(other + SMAPS.encode()), "llvmlite"))
    assert [mapping.start for mapping in found] == [0x7F00]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_llvm_goes_on_afterwards() -> None:
    text = "define i32 @f(i32 %x) {\n  %y = add i32 %x, 1\n  ret i32 %y\n}\n"
    target = TARGETS["x86-64-v2"] if "x86-64-v2" in TARGETS else next(iter(TARGETS.values()))
    before = llvmc.compile_object(text, target)
    full = pages()
    llvmc.give_back()
    left = pages()
    assert left < full - (16 << 10)
    assert llvmc.compile_object(text, target) == before
    assert pages() > left


def pages() -> int:
    """KiB of LLVM's library that are in memory."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            inside = "llvmlite" in line
        elif inside and first == "Rss:":
            total += int(rest[0])
    return total
