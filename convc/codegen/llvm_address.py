"""Addresses of loads and stores: what is constant goes into an offset, each variable into its level."""

from __future__ import annotations

from convc.codegen.llvm_registers import RegisterWriter
from convc.frozen import frozen
from convc.loops.ir import Binary, Buffer, Const, Expr, Kernel, Var
from convc.loops.simplify import Linear, linear, plain_offset, simplify_form
from convc.loops.walking import subexpressions, variables
from convc.target import Target

# Accesses that start from one pointer, from which on LLVM isn't to look for other pointers for them.
_MANY_OFFSETS = 4


@frozen
class Address:
    """Where a load or store goes: a pointer, a constant byte offset, and how far one lane is from the next."""

    pointer: str
    offset: int
    lane_step: int


class AddressWriter(RegisterWriter):
    """Pointers to elements of buffers, each part computed once."""

    def __init__(self, kernel: Kernel, target: Target, name: str) -> None:
        super().__init__(kernel, target, name)
        self._offsets: dict[tuple[int, ...], tuple[tuple[str, ...], Linear, bool]] = {}
        self._forms: dict[tuple[object, ...], Linear] = {}
        # By id, with the expression, which is thus kept alive.
        self._variables: dict[int, tuple[Expr, tuple[tuple[str, ...], bool]]] = {}
        self._alive: list[Expr | tuple[Expr, ...]] = []
        self._reached: dict[str, set[int]] = {}  # the offsets asked for, by pointer

    def address(self, buffer: Buffer, at: tuple[Expr, ...]) -> Address:
        """The pointer of an access: what is constant goes into the offset, each variable into its level."""
        size = buffer.dtype.itemsize
        terms, offset = self.physical_offset(buffer, at)
        lane_step = 0
        dynamic: dict[Expr, int] = {}
        for atom, coefficient in terms.items():
            if not isinstance(atom, Var):
                parts, rest = self.specialised_form(atom)
                offset += rest * coefficient
                for part, factor in parts.items():
                    lane_step += self.add_term(dynamic, part, factor * coefficient)
            elif (known := self.constants.get(atom.name)) is not None:
                offset += known * coefficient
            else:
                lane_step += self.add_term(dynamic, atom, coefficient)
        return Address(self.pointer_to(buffer, dynamic), offset * size, lane_step * size)

    def add_term(self, dynamic: dict[Expr, int], atom: Expr, coefficient: int) -> int:
        """Sorts a term of an address: the lane's coefficient is returned, others are collected."""
        lane = self.lane
        if lane is not None and isinstance(atom, Var):
            if atom.name == lane.var:
                return coefficient
        elif lane is not None and lane.var in variables(atom):
            raise self.error(f"an address isn't linear in the lane {lane.var}")
        dynamic[atom] = dynamic.get(atom, 0) + coefficient
        return 0

    def physical_offset(self, buffer: Buffer, at: tuple[Expr, ...]) -> Linear:
        """The element offset of a logical index as a linear form, computed once per access.

        What isn't linear in the variables is simplified by their ranges, which another loop of the same name changes.
        """
        key = (id(buffer), *map(id, at))
        if key not in self._offsets:
            form = plain_offset(buffer, at)
            atoms = [atom for atom in form[0] if not isinstance(atom, Var)]
            names = tuple(dict.fromkeys(n for atom in atoms for n in variables(atom)))
            self._offsets[key] = (names, form if atoms else simplify_form(form, {}), bool(atoms))
            self._alive.append(at)
        names, form, depends = self._offsets[key]
        if not depends:
            return form
        place = (key, *[self.ranges.get(n) for n in names])
        if place not in self._forms:
            self._forms[place] = simplify_form(form, self.ranges)
        return self._forms[place]

    def specialised_form(self, atom: Expr) -> Linear:
        """The linear form of a specialised part of an address, computed once per numbers and ranges."""
        names, _ = self.variables(atom)
        key = (
            id(atom),
            *[self.constants.get(n) for n in names],
            *[self.ranges.get(n) for n in names],
        )
        if key not in self._forms:
            self._forms[key] = linear(self.specialised(atom))
        return self._forms[key]

    def variables(self, expr: Expr) -> tuple[tuple[str, ...], bool]:
        """The variables of a part of an address, and whether it follows from them alone."""
        if id(expr) not in self._variables:
            pure = all(isinstance(e, (Var, Const, Binary)) for e in subexpressions(expr))
            self._variables[id(expr)] = (expr, (variables(expr), pure))
        return self._variables[id(expr)][1]

    def pointer_to(self, buffer: Buffer, terms: dict[Expr, int]) -> str:
        """A pointer plus its dynamic terms, each level adding its own to the one around it."""
        pointer = self.pointers[buffer.name]
        if not terms:
            return pointer
        key = self.pointer_key(pointer, buffer.dtype.itemsize, terms)
        known = self.f.find(key) if key is not None else None
        if known is not None:
            return known
        by_level: dict[int, dict[Expr, int]] = {}
        for atom, coefficient in terms.items():
            by_level.setdefault(self.level_of(atom), {})[atom] = coefficient
        for level in sorted(by_level):
            amount = self.linear_value((by_level[level], 0), level, buffer.dtype.itemsize)
            pointer = self.f.once(f"getelementptr i8, ptr {pointer}, i64 {amount}", level)
        if key is not None:
            self.f.remember(key, pointer)
        return pointer

    def pointer_key(self, pointer: str, size: int, terms: dict[Expr, int]) -> object | None:
        """What a pointer with terms follows from, where each is a value by now: unrolled loops ask again and again."""
        parts: list[object] = [pointer, size]
        for atom, coefficient in terms.items():
            parts.append(coefficient)
            if isinstance(atom, Var):
                names: tuple[str, ...] = (atom.name,)
            else:
                parts.append(id(atom))
                names, pure = self.variables(atom)
                if not pure:
                    return None
            for name in names:
                if name not in self.names or name in self.data:
                    return None
                parts.append(self.names[name][0].text)
        return tuple(parts)

    def moved(self, pointer: str, offset: int) -> str:
        """A pointer plus bytes. One that many accesses start from is settled as it is: see `Function.settle`."""
        reached = self._reached.setdefault(pointer, set())
        if offset not in reached:
            reached.add(offset)
            if len(reached) == _MANY_OFFSETS:
                self.f.settle(pointer)
        return self.f.once(f"getelementptr i8, ptr {pointer}, i64 {offset}") if offset else pointer
