"""Kernels that meet every operand in the order of its memory, as one loop over that memory.

What updates a model's state is such a kernel, whatever the shape and the layout of the parameter: so updates of equally
many elements are one kernel, and those of other sizes differ from it in a number only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from convc.loops.ir import (
    INDEX,
    Block,
    Buffer,
    Const,
    Expr,
    For,
    Kernel,
    Layout,
    Let,
    Load,
    Space,
    Store,
    Var,
)
from convc.loops.walking import expressions, map_block, map_expr, subexpressions


def flattened(kernel: Kernel) -> Kernel:
    """The kernel as one loop over its operands' memory; the kernel itself where that isn't the same to it.

    y: float32[64, 32] @(d1, d0)                          y: float32[2048]
    for n in 64 { for o in 32 {                    ->     for i in 2048 {
      y[n, o] = x[n, o] * s[] } }                           y[i] = x[i] * s[] }
    """
    extents, body = _nest(kernel)
    long = {b.name: b for b in kernel.params if b.size != 1}
    size = math.prod(extents.values())
    if not body or any(b.size != size or b.space is Space.constant for b in long.values()):
        return kernel
    if any(isinstance(s, Store) and s.buffer not in long for s in body):
        return kernel  # the turns meet there, in their order
    met = [_strides(long[name], at, extents) for name, at in _accesses(body) if name in long]
    if not met or any(m != met[0] for m in met) or not _is_dense(met[0], extents):
        return kernel

    def at_memory(index: Expr) -> Block:
        def moved(expr: Expr) -> Expr:
            if isinstance(expr, Load) and expr.buffer in long:
                return replace(expr, index=(index,))
            return expr

        mapped = map_block(body, lambda e: map_expr(moved, e))
        return tuple(
            replace(s, index=(index,)) if isinstance(s, Store) and s.buffer in long else s
            for s in mapped
        )

    first = [
        e for s in at_memory(Const(0, INDEX)) for x in expressions(s) for e in subexpressions(x)
    ]
    if any(isinstance(e, Var) and e.name in extents for e in first):
        return kernel  # it computes with an index
    params = tuple(
        replace(b, shape=(size,), layout=Layout.dense(1)) if b.name in long else b
        for b in kernel.params
    )
    loop = For("i", Const(size, INDEX), at_memory(Var("i")))
    return replace(kernel, params=params, body=(loop,))


def _nest(kernel: Kernel) -> tuple[dict[str, int], Block]:
    """The extents of a perfect nest of loops by variable, and what is inside; nothing, if that isn't all there is."""
    extents: dict[str, int] = {}
    body = kernel.body
    while len(body) == 1 and isinstance(loop := body[0], For) and isinstance(loop.extent, Const):
        extents[loop.var] = int(loop.extent.value)
        body = loop.body
    simple = all(isinstance(s, (Let, Store)) for s in body)
    return extents, body if simple and not kernel.symbols else ()


def _accesses(body: Block) -> Iterator[tuple[str, tuple[Expr, ...]]]:
    for stmt in body:
        if isinstance(stmt, Store):
            yield stmt.buffer, stmt.index
        for expr in expressions(stmt):
            for inner in subexpressions(expr):
                if isinstance(inner, Load):
                    yield inner.buffer, inner.index


def _strides(
    buffer: Buffer, at: tuple[Expr, ...], extents: Mapping[str, int]
) -> dict[str, int] | None:
    """How many elements further in memory the next turn of each loop is; None if that isn't all about an access."""
    if any(b != (0, 0) for b in buffer.layout.border):
        return None
    found: dict[str, int] = {}
    for axis, stride in zip(buffer.layout.axes, buffer.layout.strides(buffer.shape), strict=True):
        position = at[axis.dim]
        if axis.divide != 1 or axis.modulus is not None or not isinstance(stride, int):
            return None
        if isinstance(position, Var) and position.name in extents and position.name not in found:
            found[position.name] = stride
        elif position != Const(0, INDEX):
            return None
    return {var: stride for var, stride in found.items() if extents[var] != 1}


def _is_dense(strides: dict[str, int] | None, extents: Mapping[str, int]) -> bool:
    """Whether loops meet one element after the other of memory, in some order of the loops."""
    if strides is None or any(n != 1 and var not in strides for var, n in extents.items()):
        return False
    expected = 1
    for var in sorted(strides, key=strides.__getitem__):
        if strides[var] != expected:
            return False
        expected *= extents[var]
    return True
