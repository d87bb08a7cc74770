"""Rewrites of scalar arithmetic, for machines that lack an operation."""

from __future__ import annotations

from dataclasses import replace

from convc.loops.ir import Call, Expr, Kernel, binary
from convc.loops.walking import map_block, map_expr


def split_fma(kernel: Kernel) -> Kernel:
    """A product and a sum, each rounded, in place of each fused multiply-add: for machines without one.

    Before: for i in 4 { y[i] = fma(x[i], 2.0, y[i]) }
    After:  for i in 4 { y[i] = (x[i]*2.0) + y[i] }
    """

    def visit(expr: Expr) -> Expr:
        if isinstance(expr, Call) and expr.function == "fma":
            a, b, c = expr.args
            return binary("+", binary("*", a, b), c)
        return expr

    return replace(kernel, body=map_block(kernel.body, on_expr=lambda e: map_expr(visit, e)))
