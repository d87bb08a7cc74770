"""ELF objects and shared libraries of position-independent images, written without a linker.

A model is three pieces: an image, read-only tables that hold pointers, and weights. An image needs no
relocation, so all that a linker or loader has to do is to fill in the tables' pointers.
The formats are those of the System V ABI, chapters 4 and 5, and of its x86-64 and AArch64 supplements.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from convc.codegen.link import EM_AARCH64, EM_X86_64, PAGE, Image

# Relocation kinds per machine: a 64-bit address, and the load address plus a number.
_ABSOLUTE = {EM_X86_64: 1, EM_AARCH64: 257}
_RELATIVE = {EM_X86_64: 8, EM_AARCH64: 1027}
# The largest page that the machine's Linux systems use.
_SEGMENT = {EM_X86_64: PAGE, EM_AARCH64: 1 << 16}
_PROGBITS, _SYMTAB, _STRTAB, _RELA, _HASH, _DYNAMIC, _DYNSYM = 1, 2, 3, 4, 5, 6, 11
_WRITE, _ALLOC, _EXECUTE, _INFO = 1, 2, 4, 0x40
_NO_SYMBOL = (0, 0, 0, 0, 0, 0)
_CODE, _TABLES, _WEIGHTS = "code", "tables", "weights"


@dataclass(frozen=True)
class Pointer:
    """8 bytes of the tables, at `offset`, that point to `target` of a piece: code, tables or weights."""

    offset: int
    piece: str
    target: int


@dataclass(frozen=True)
class Library:
    """What an object or a shared library is made of. `symbol` is the one global name, at tables + 0."""

    image: Image
    tables: bytes
    pointers: tuple[Pointer, ...]
    weights: np.ndarray
    symbol: str


# A file is (offset, bytes) parts in order, zeros between: weights are not copied.
Parts = list[tuple[int, bytes | memoryview]]


class _Strings:
    """A string table; `add` gives the offset of a name."""

    def __init__(self) -> None:
        self.data = bytearray(1)

    def add(self, name: str) -> int:
        at = len(self.data)
        self.data += name.encode() + b"\0"
        return at


@dataclass
class _Section:
    name: str
    kind: int
    flags: int
    data: bytes | memoryview
    align: int = 8
    link: int = 0
    info: int = 0
    entry_size: int = 0
    offset: int = 0
    address: int = 0


def object_file(library: Library) -> Parts:
    """A relocatable object for any linker."""
    machine = library.image.machine
    pieces = {_CODE: 1, _TABLES: 2, _WEIGHTS: 3}
    relocations = b"".join(
        struct.pack("<QQq", p.offset, pieces[p.piece] << 32 | _ABSOLUTE[machine], p.target)
        for p in library.pointers
    )
    strings = _Strings()
    # Symbols 1 to 3 stand for the sections, so that relocations can say "that piece plus so much".
    rows = [_NO_SYMBOL] + [(0, 3, 0, i, 0, 0) for i in (1, 2, 3)]
    rows += [(strings.add(n), 2, 0, 1, o, 0) for n, o in sorted(library.image.symbols.items())]
    first_global = len(rows)
    rows.append((strings.add(library.symbol), 0x11, 0, 2, 0, len(library.tables)))
    sections = [
        _Section(".text", _PROGBITS, _ALLOC | _EXECUTE, library.image.code, PAGE),
        _Section(".data.rel.ro", _PROGBITS, _ALLOC | _WRITE, library.tables),
        _Section(".rodata.convc", _PROGBITS, _ALLOC, _bytes(library.weights), PAGE),
        _Section(".rela.data.rel.ro", _RELA, _INFO, relocations, 8, 5, 2, 24),
        _Section(".symtab", _SYMTAB, 0, _symbols(rows), 8, 6, first_global, 24),
        _Section(".strtab", _STRTAB, 0, bytes(strings.data), 1),
        _Section(".note.GNU-stack", _PROGBITS, 0, b"", 1),
    ]
    at = 64
    for section in sections:
        at = section.offset = _round_up(at, section.align)
        at += len(section.data)
    table = _section_table(sections, at)
    header = _header(machine, 1, 0, table[0][0], len(sections) + 2)
    return [(0, header), *((s.offset, s.data) for s in sections), *table]


def shared_library(library: Library, soname: str) -> Parts:
    """A shared library for dlopen and for programs that link against it."""
    machine = library.image.machine
    page = _SEGMENT[machine]
    strings = _Strings()
    name, own_name = strings.add(library.symbol), strings.add(soname)
    sections = [
        _Section(".hash", _HASH, _ALLOC, struct.pack("<IIIII", 1, 2, 1, 0, 0), 8, 2, 0, 4),
        _Section(".dynsym", _DYNSYM, _ALLOC, bytes(48), 8, 3, 1, 24),
        _Section(".dynstr", _STRTAB, _ALLOC, bytes(strings.data), 1),
        _Section(".rela.dyn", _RELA, _ALLOC, bytes(24 * len(library.pointers)), 8, 2, 0, 24),
        _Section(".text", _PROGBITS, _ALLOC | _EXECUTE, library.image.code, page),
        _Section(".rodata.convc", _PROGBITS, _ALLOC, _bytes(library.weights), page),
        _Section(".data.rel.ro", _PROGBITS, _ALLOC | _WRITE, library.tables, page),
        _Section(".dynamic", _DYNAMIC, _ALLOC | _WRITE, bytes(16 * 11), 16, 3, 0, 16),
    ]
    hash_, dynsym, dynstr, rela, text, weights, tables, dynamic = sections
    at = 64 + 56 * 7
    for section in sections:
        at = section.offset = section.address = _round_up(at, section.align)
        at += len(section.data)
    end = _round_up(at, page)
    dynsym.data = _symbols([_NO_SYMBOL, (name, 0x11, 0, 7, tables.address, len(tables.data))])
    where = {_CODE: text.address, _TABLES: tables.address, _WEIGHTS: weights.address}
    rela.data = b"".join(
        struct.pack(
            "<QQq", tables.address + p.offset, _RELATIVE[machine], where[p.piece] + p.target
        )
        for p in library.pointers
    )
    # soname, hash, strtab, symtab, strsz, syment, rela, relasz, relaent, relacount, end
    dynamic.data = struct.pack(
        "<22Q", 14, own_name, 4, hash_.address, 5, dynstr.address, 6, dynsym.address, 10, len(dynstr.data), 11, 24,
        7, rela.address, 8, len(rela.data), 9, 24, 0x6FFFFFF9, len(library.pointers), 0, 0,
    )  # fmt: skip
    segments = [
        _segment(1, 4, 0, rela.offset + len(rela.data), page),
        _segment(1, 5, text.offset, len(text.data), page),
        _segment(1, 4, weights.offset, len(weights.data), page),
        _segment(1, 6, tables.offset, end - tables.offset, page, at - tables.offset),
        _segment(2, 6, dynamic.offset, len(dynamic.data), 8),
        _segment(0x6474E552, 4, tables.offset, end - tables.offset, 1, at - tables.offset),
        _segment(0x6474E551, 6, 0, 0, 16),
    ]
    sections += _debugging_symbols(library.image.symbols, text.address, len(sections) + 1)
    for section in sections[8:]:
        at = section.offset = _round_up(at, section.align)
        at += len(section.data)
    table = _section_table(sections, at)
    header = _header(machine, 3, 64, table[0][0], len(sections) + 2, len(segments))
    start = (0, header + b"".join(segments))
    return [start, *((s.offset, s.data) for s in sections), *table]


def _debugging_symbols(symbols: Mapping[str, int], text: int, index: int) -> list[_Section]:
    """The names of kernels, for profilers and debuggers: .symtab and its strings. `index` is .symtab's own."""
    strings = _Strings()
    rows = [_NO_SYMBOL]
    rows += [(strings.add(n), 2, 0, 5, text + o, 0) for n, o in sorted(symbols.items())]
    table = _Section(".symtab", _SYMTAB, 0, _symbols(rows), 8, index + 1, len(rows), 24)
    return [table, _Section(".strtab", _STRTAB, 0, bytes(strings.data), 1)]


def _header(
    machine: int, kind: int, segments_at: int, sections_at: int, sections: int, segments: int = 0
) -> bytes:
    identification = b"\x7fELF\x02\x01\x01" + bytes(9)
    return identification + struct.pack(
        "<HHIQQQIHHHHHH", kind, machine, 1, 0, segments_at, sections_at, 0, 64, 56 if segments else 0, segments, 64,
        sections, sections - 1,
    )  # fmt: skip


def _segment(
    kind: int, flags: int, offset: int, memory: int, align: int, size: int | None = None
) -> bytes:
    """A program header: file offset and address are the same everywhere in these files."""
    in_file = memory if size is None else size
    return struct.pack("<IIQQQQQQ", kind, flags, offset, offset, offset, in_file, memory, align)


def _section_table(sections: list[_Section], at: int) -> Parts:
    """The section headers and, after them, the section names."""
    names = _Strings()
    at = _round_up(at, 8)
    rows = [bytes(64)]
    for s in sections:
        rows.append(_section_row(names.add(s.name), s))
    own = names.add(".shstrtab")
    names_at = at + 64 * (len(sections) + 2)
    last = _Section(".shstrtab", _STRTAB, 0, bytes(names.data), 1, offset=names_at)
    rows.append(_section_row(own, last))
    return [(at, b"".join(rows)), (names_at, last.data)]


def _section_row(name: int, s: _Section) -> bytes:
    return struct.pack(
        "<IIQQQQIIQQ", name, s.kind, s.flags, s.address, s.offset, len(s.data), s.link, s.info, s.align, s.entry_size
    )  # fmt: skip


def _symbols(rows: Sequence[tuple[int, ...]]) -> bytes:
    """Symbol table entries of (name, info, visibility, section, value, size)."""
    return b"".join(struct.pack("<IBBHQQ", *row) for row in rows)


def _bytes(array: np.ndarray) -> memoryview:
    """The weights; one byte where there are none, since loaders refuse empty segments."""
    return array.data.cast("B") if array.size else memoryview(b"\0")


def _round_up(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment
