"""Gated recurrent units whose reset gate acts before the product (Cho et al., 2014, version 1), and their gradient.

Two products follow one another in a step: h @ r for the gates z and r, then (s(r) * h) @ r for the new state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from convc.graph.ir import Builder
from convc.graph.op import register
from convc.loops.formula import Memory, Tensor
from convc.loops.ir import Block, Expr, For, Var, const, index, select
from convc.ops.base import Array, Gradients, Names
from convc.ops.gates import ACTIVATIONS, Elements, Part, Tensors
from convc.ops.placing import taken
from convc.ops.recurrent import Recurrence, gate_of, joined, put_at, sum_of_products
from convc.ops.recurrent_gradients import RecurrenceGradient, Row
from convc.ops.values import Value
from convc.types import TensorType


@register
@dataclass(frozen=True)
class GruResetLoop(Recurrence):
    """Gates z, r, h side by side: h' = s(z) * h + (1 - s(z)) * g(x_h + (s(r) * h) @ weights_h)."""

    activations: tuple[str, ...] = ("sigmoid", "tanh")
    gates = 3
    functions = 2

    def workspace(self, x: TensorType, *rest: TensorType) -> tuple[TensorType, ...]:
        """The products, what is kept of the output, and the output as far as it isn't reset."""
        product, *held = super().workspace(x, *rest)
        return product, *held, TensorType(x.dtype, (x.shape[1], self.units(x)))

    def numpy_product(self, x: Array, h: Array, r: Array) -> Array:
        units = h.shape[-1]
        both = h @ r[:, : 2 * units]
        reset = ACTIVATIONS[self.activations[0]].numpy(
            (x[..., : 2 * units] + both)[..., units : 2 * units]
        )
        return np.concatenate([both, (reset * h) @ r[:, 2 * units :]], -1)

    def numpy_step(self, x: Array, product: Array, old: Array) -> list[Array]:
        gate, inner = (ACTIVATIONS[name].numpy for name in self.activations)
        z, _, fresh = self.numpy_gates(x + product)
        z = gate(z)
        return [z * old[0] + (1 - z) * inner(fresh)]

    def products(
        self,
        space: Sequence[Memory],
        n: Expr,
        units: int,
        h: Callable[[Expr], Expr],
        added: Callable[[Expr], Expr],
        r: Tensor,
    ) -> Block:
        product, *_, left = space
        put, u = partial(put_at, product, n), Var("r0")
        inside = sum_of_products(
            "g", 2 * units, units, added, lambda g, k: (h(k), r(k, g)), put
        )  # fmt: skip
        reset = ACTIVATIONS[self.activations[0]].function(product(n, u + units))
        last = sum_of_products(
            "m", units, units, lambda j: added(j + 2 * units),
            lambda j, k: (left(n, k), r(k, j + 2 * units)), lambda j, value: put(j + 2 * units, value),
        )  # fmt: skip
        return inside, For("r0", index(units), (left.put(reset * h(u), n, u),)), last

    def product(self, x: Value, h: Value, r: Value) -> Value:
        units, last = r.shape[0], h.rank - 1
        assert isinstance(units, int)
        both = h.matmul(taken(r, 1, 0, 2 * units))
        reset = self.reset(x, both, units)
        return joined([both, (reset * h).matmul(taken(r, 1, 2 * units, 3 * units))], last)

    def reset(self, x: Value, both: Value, units: int) -> Value:
        """The reset gate, from the inputs and the first product."""
        return self.activated(0, gate_of(x, units)(1) + gate_of(both, units)(1))

    def activated(self, which: int, x: Value) -> Value:
        made: Value = Tensors().activated(self.activations[which], x)
        return made

    def step(self, e: Elements, x: Part, product: Part, old: Part) -> list[Any]:
        gate, inner = self.activations
        z = e.let("z", e.activated(gate, product(0)))
        fresh = e.let("fresh", e.activated(inner, product(2)))
        return [e.let("h", e.fma(z, old(0) - fresh, fresh))]

    def gradient(
        self, builder: Builder, inputs: Names, outputs: Names, output_gradients: Names
    ) -> Gradients:
        loop, _ = self.loop_of(builder, inputs, outputs, output_gradients)
        units = loop.r.shape[0]
        assert isinstance(units, int)
        held, shape = loop.held(), loop.x.shape[:2]
        both = loop.rows(held).matmul(taken(loop.r, 1, 0, 2 * units)).reshape((*shape, 2 * units))
        left = loop.rows(self.reset(loop.x, both, units) * held)
        last = left.matmul(taken(loop.r, 1, 2 * units, 3 * units)).reshape((*shape, units))
        gates = loop.x + joined([both, last], 2)
        d = gates.apply("gru_reset_loop_gradient", *loop.last_operands, **self.attributes)
        dx = taken(d, 0, 0, loop.steps)
        weights = [
            loop.rows(held).matrix_transposed().matmul(loop.rows(taken(dx, 2, 0, 2 * units))),
            left.matrix_transposed().matmul(loop.rows(taken(dx, 2, 2 * units, 3 * units))),
        ]
        return loop.gradients(dx, joined(weights, 1), loop.first_gradient(d, 0))


@register
@dataclass(frozen=True)
class GruResetLoopGradient(RecurrenceGradient):
    """Of GruResetLoop; the input is what its gates are functions of."""

    activations: tuple[str, ...] = ("sigmoid", "tanh")
    gates = width = 3
    last = 2

    def workspace(self, *types: TensorType) -> tuple[TensorType, ...]:
        """What the output that isn't reset gets, through the second product."""
        w, y = types[self.given], types[self.given + 1]
        return (TensorType(w.dtype, (y.shape[2], w.shape[1])),)

    def numpy_step(
        self, inputs: list[Array], old: Array, new: Array, whole: list[Array], w: Array
    ) -> tuple[list[Array], list[Array]]:
        gate, inner = (ACTIVATIONS[name] for name in self.activations)
        z, r, fresh = np.split(inputs[0], 3, -1)
        z, r, fresh = gate.numpy(z), gate.numpy(r), inner.numpy(fresh)
        dfresh = whole[0] * (1 - z) * inner.numpy_slope(fresh)
        left = dfresh @ w[2 * w.shape[1] :]
        dz = whole[0] * (old[0] - fresh) * gate.numpy_slope(z)
        dr = left * old[0] * gate.numpy_slope(r)
        return [dz, dr, dfresh], [whole[0] * z + left * r]

    def tensor_step(
        self, e: Tensors, given: list[Part], old: Part, new: Part, whole: list[Any], w: Value
    ) -> tuple[list[Any], list[Any]]:
        units = w.shape[1]
        assert isinstance(units, int)
        dz, dfresh = self.outer(e, given[0], old, whole[0])
        left = dfresh.matmul(taken(w, 0, 2 * units, 3 * units))
        dr, kept = self.inner(e, given[0], old, whole[0], left)
        return [dz, dr, dfresh], [kept]

    def outer(self, e: Elements, gate: Part, old: Part, whole: Any) -> tuple[Any, Any]:
        """The gradients of the gates z and h."""
        names = self.activations
        outer, inner = (ACTIVATIONS[name].slope for name in names)
        z = e.let("z", e.activated(names[0], gate(0)))
        fresh = e.let("fresh", e.activated(names[1], gate(2)))
        dz = e.let("dz", whole * (old(0) - fresh) * outer(z))
        return dz, e.let("dfresh", whole * (1 - z) * inner(fresh))

    def inner(self, e: Elements, gate: Part, old: Part, whole: Any, left: Any) -> tuple[Any, Any]:
        """The gradient of the gate r, and what goes on to the output before, but for the last product's part."""
        name = self.activations[0]
        z = e.let("zi", e.activated(name, gate(0)))
        r = e.let("r", e.activated(name, gate(1)))
        dr = e.let("dr", left * old(0) * ACTIVATIONS[name].slope(r))
        return dr, e.let("kept", e.fma(whole, z, left * r))

    def nests(self, row: Row, space: Sequence[Memory]) -> Block:
        (left,) = space
        n, u, v, units = row.n, Var("u"), Var("v"), row.units
        e = Elements()
        whole = e.let("d0", row.whole(0, u))
        dz, dfresh = self.outer(e, row.gate(0, u), row.old(u), whole)
        if row.mask is not None:
            inside = e.let("inside", row.inside(row.mask))
            dz, dfresh = (e.where(inside, part, e.zero(part)) for part in (dz, dfresh))
        stores = (row.put_part(0, u, dz), row.put_part(2, u, dfresh))
        product = sum_of_products(
            "l", units, units, lambda j: const(0, row.w.dtype),
            lambda j, k: (row.d(*row.part(2, k)), row.w(k + 2 * units, j)), partial(put_at, left, n),
        )  # fmt: skip
        f = Elements()
        all = f.let("d1", row.whole(0, v))
        dr, kept = self.inner(f, row.gate(0, v), row.old(v), all, left(n, v))
        if row.mask is not None:
            inside = f.let("insider", row.inside(row.mask))
            dr, kept = select(inside, dr, f.zero(dr)), select(inside, kept, all)
        later = (row.put_part(1, v, dr), row.d.put(kept, *row.carried(0, v)))
        return (
            For("u", index(units), (*e.block, *stores)),
            product,
            For("v", index(units), (*f.block, *later)),
            row.back(self.last),
        )
