"""Relocatable ELF objects to one position-independent image: all the linking that generated code needs.

Code and constants of every object are laid out behind one another; what refers to what is resolved
here, so that an image runs wherever it is mapped, without a loader. Generated code is freestanding:
writable data, an indirection table or a symbol that nobody defines is an error that names it.
The record layouts are those of the System V ABI, "Object Files", and of its x86-64 and AArch64 supplements.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from convc.errors import IRError

EM_X86_64 = 62
EM_AARCH64 = 183
_ALLOC, _WRITE, _TLS = 0x2, 0x1, 0x400
_PROGBITS, _SYMTAB, _RELA, _NOBITS = 1, 2, 4, 8
_UNDEFINED, _ABSOLUTE = 0, 0xFFF1
# What an image leaves out: unwind tables (nothing generated throws) and notes.
_DROPPED = (".eh_frame", ".note", ".comment")
PAGE = 4096


@dataclass(frozen=True)
class Fixup:
    """A place in an image that still wants the distance to `symbol`, which is defined outside of it."""

    offset: int
    kind: int
    symbol: str
    addend: int


@dataclass(frozen=True)
class Image:
    """Position-independent code and constants. `symbols` are byte offsets of the global definitions.

    The image must be mapped at a page boundary. `fixups` is empty unless `link` was given externals.
    """

    machine: int
    code: bytes
    symbols: dict[str, int]
    fixups: tuple[Fixup, ...] = ()


@dataclass(frozen=True)
class _Section:
    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int


@dataclass(frozen=True)
class _Symbol:
    name: str
    binding: int
    section: int
    value: int


@dataclass
class _Object:
    data: bytes
    machine: int
    sections: list[_Section]
    symbols: list[_Symbol]
    placed: dict[int, int] = field(default_factory=dict)  # section index -> offset in the image


def link(objects: Sequence[bytes], externals: Sequence[str] = ()) -> Image:
    """One image of several ELF objects for the same machine.

    A global symbol may be defined once; symbols of `externals` may stay undefined and come back as
    fixups. IRError for anything that generated code must not contain.
    """
    if not objects:
        raise IRError("nothing to link: expected at least one object")
    parsed = [_read(data) for data in objects]
    machines = {o.machine for o in parsed}
    if len(machines) != 1:
        raise IRError(
            f"objects for several machines can't be linked: ELF machines {sorted(machines)}"
        )
    code = _lay_out(parsed)
    symbols = _definitions(parsed)
    _refuse_undefined(parsed, symbols, externals)
    fixups = [f for o in parsed for f in _relocate(o, code, symbols)]
    return Image(parsed[0].machine, bytes(code), symbols, tuple(fixups))


def undefined_symbols(data: bytes) -> tuple[str, ...]:
    """The symbols that an ELF object refers to and doesn't define, sorted."""
    return tuple(sorted({s.name for s in _read(data).symbols if _is_undefined(s)}))


def _is_undefined(symbol: _Symbol) -> bool:
    return symbol.section == _UNDEFINED and bool(symbol.name)


def _read(data: bytes) -> _Object:
    if data[:6] != b"\x7fELF\x02\x01":
        raise IRError("not a 64-bit little-endian ELF object")
    kind, machine = struct.unpack_from("<HH", data, 16)
    if kind != 1:
        raise IRError(f"ELF type {kind} can't be linked: expected a relocatable object (1)")
    if machine not in (EM_X86_64, EM_AARCH64):
        raise IRError(
            f"ELF machine {machine} can't be linked: expected x86-64 (62) or AArch64 (183)"
        )
    table = struct.unpack_from("<Q", data, 40)[0]
    count, names_index = struct.unpack_from("<HH", data, 60)
    rows = [struct.unpack_from("<IIQQQQIIQQ", data, table + 64 * i) for i in range(count)]
    names = rows[names_index][4]
    sections = [
        _Section(_string(data, names + r[0]), r[1], r[2], r[4], r[5], r[6], r[7], r[8], r[9])
        for r in rows
    ]
    return _Object(data, machine, sections, _read_symbols(data, sections))


def _string(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode()


def _read_symbols(data: bytes, sections: list[_Section]) -> list[_Symbol]:
    symbols: list[_Symbol] = []
    for table in (s for s in sections if s.kind == _SYMTAB):
        strings = sections[table.link].offset
        for at in range(table.offset, table.offset + table.size, 24):
            name, info, _, section, value, _ = struct.unpack_from("<IBBHQQ", data, at)
            symbols.append(_Symbol(_string(data, strings + name), info >> 4, section, value))
    return symbols


def _is_kept(section: _Section) -> bool:
    return bool(section.flags & _ALLOC) and not section.name.startswith(_DROPPED)


def _lay_out(objects: list[_Object]) -> bytearray:
    """Place every kept section, code before constants, and return their bytes."""
    everything = [(o, i, s) for o in objects for i, s in enumerate(o.sections) if _is_kept(s)]
    for _, _, section in everything:
        if section.size and (section.flags & (_WRITE | _TLS) or section.kind == _NOBITS):
            raise IRError(
                f"generated code has writable data: section {section.name}, {section.size} bytes"
            )
    executable = [row for row in everything if row[2].flags & 0x4]
    constant = [row for row in everything if not row[2].flags & 0x4]
    code = bytearray()
    for group in (executable, constant):
        code.extend(bytes(-len(code) % 64))
        for owner, index, section in group:
            code.extend(bytes(-len(code) % max(1, section.align)))
            owner.placed[index] = len(code)
            code.extend(owner.data[section.offset : section.offset + section.size])
    code.extend(bytes(-len(code) % 64))
    return code


def _definitions(objects: list[_Object]) -> dict[str, int]:
    symbols: dict[str, int] = {}
    for owner in objects:
        for s in owner.symbols:
            if s.binding == 0 or s.section not in owner.placed:
                continue
            if s.name in symbols:
                raise IRError(f"symbol {s.name} is defined twice")
            symbols[s.name] = owner.placed[s.section] + s.value
    return symbols


def _refuse_undefined(
    objects: list[_Object], symbols: dict[str, int], externals: Sequence[str]
) -> None:
    wanted = {s.name for o in objects for s in o.symbols if _is_undefined(s)}
    missing = sorted(wanted - set(symbols) - set(externals))
    if missing:
        raise IRError(f"generated code calls outside of itself: undefined {', '.join(missing)}")


def _relocate(owner: _Object, code: bytearray, symbols: dict[str, int]) -> list[Fixup]:
    """Resolve the relocations of one placed object in `code`; those to externals come back."""
    fixups = []
    for table in (s for s in owner.sections if s.kind == _RELA and s.info in owner.placed):
        base = owner.placed[table.info]
        for at in range(table.offset, table.offset + table.size, 24):
            offset, info, addend = struct.unpack_from("<QQq", owner.data, at)
            kind, symbol = info & 0xFFFFFFFF, owner.symbols[info >> 32]
            place = base + offset
            value = _address(owner, symbol, symbols)
            if value is None:
                fixups.append(Fixup(place, kind, symbol.name, addend))
                continue
            patch(owner.machine, kind, code, place, value + addend, symbol.name)
    return fixups


def _address(owner: _Object, symbol: _Symbol, symbols: dict[str, int]) -> int | None:
    """The image offset of a relocation's symbol, or None for an external one."""
    if symbol.section in owner.placed:
        return owner.placed[symbol.section] + symbol.value
    if symbol.section == _UNDEFINED:
        return symbols.get(symbol.name)
    where = (
        "an absolute value" if symbol.section == _ABSOLUTE else "a section that images leave out"
    )
    raise IRError(f"generated code refers to {symbol.name or 'a symbol'}, which is {where}")


def patch(machine: int, kind: int, code: bytearray, place: int, target: int, name: str) -> None:
    """Write one relocation of the given ELF kind at `place`; both offsets are within the image."""
    match machine, kind:
        case (62, 2 | 4) | (183, 261):  # PC32, PLT32; PREL32
            _put_signed(code, place, target - place, 32, name)
        case (62, 24) | (183, 260):  # PC64; PREL64
            struct.pack_into("<q", code, place, target - place)
        case (
            183,
            275,
        ):  # ADR_PREL_PG_HI21: the distance in pages, its low 2 bits at 29, the rest at 5
            pages = (target // PAGE) - (place // PAGE)
            _put_bits(code, place, (pages & 3) << 29 | ((pages >> 2) & 0x7FFFF) << 5)
        case 183, 277 | 278 | 284 | 285 | 286 | 299:  # ADD and LDST{8,16,32,64,128}_ABS_LO12_NC
            shift = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}[kind]
            _put_bits(code, place, ((target % PAGE) >> shift) << 10)
        case 183, 282 | 283:  # JUMP26, CALL26
            _put_bits(code, place, ((target - place) >> 2) & 0x3FFFFFF)
        case _:
            raise IRError(
                f"relocation kind {kind} to {name} of ELF machine {machine} isn't supported"
            )


def _put_signed(code: bytearray, place: int, value: int, bits: int, name: str) -> None:
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise IRError(f"{name} is {value} bytes away: a reference reaches {bits} bits")
    struct.pack_into("<i", code, place, value)


def _put_bits(code: bytearray, place: int, bits: int) -> None:
    word = struct.unpack_from("<I", code, place)[0]
    struct.pack_into("<I", code, place, word | bits)
