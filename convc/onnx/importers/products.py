"""Import rules of matrix products and of Einsum."""

from __future__ import annotations

from convc.onnx.importers.call import Call, Rejected, Rule
from convc.onnx.importers.windows import centred
from convc.ops.broadcasting import Add, Mul
from convc.ops.conv import NARROW
from convc.ops.matmul import MatMul
from convc.ops.reduce import ReduceSum
from convc.types import Extent


def product(c: Call, x: str, y: str) -> str:
    """numpy's matmul: vectors are a row at the left and a column at the right."""
    rows, columns = c.rank(x) == 1, c.rank(y) == 1
    x = c.reshape(x, (1, *c.shape(x))) if rows else x
    y = c.reshape(y, (*c.shape(y), 1)) if columns else y
    result = c.add(MatMul(), x, y)
    shape = list(c.shape(result))
    if columns:
        del shape[-1]
    if rows:
        del shape[-1 if columns else -2]
    return c.reshape(result, shape)


def matmul(c: Call) -> str:
    return c.cast(product(c, c[0], c[1]), c.dtype(0))


def gemm(c: Call) -> str:
    """alpha * A' @ B' + beta * C."""
    a = c.transpose(c[0], (1, 0)) if c.attr("transA", 0) else c[0]
    b = c.transpose(c[1], (1, 0)) if c.attr("transB", 0) else c[1]
    y = c.cast(c.add(MatMul(), a, b), c.dtype(0))
    alpha, beta = float(c.attr("alpha", 1.0)), float(c.attr("beta", 1.0))
    if alpha != 1:
        y = c.add(Mul(), y, c.scalar(alpha, y))
    if not c.has(2) or beta == 0:
        return y
    added = c[2] if beta == 1 else c.add(Mul(), c[2], c.scalar(beta, y))
    return c.add(Add(), y, added)


def matmul_integer(c: Call) -> str:
    """Sums of products of integers less their zero points: one for A or one per row, one for B or one per column."""
    if not c.has(2) and not c.has(3) and c.dtype(0) in NARROW:
        return product(c, c[0], c[1])
    a = centred(c, c[0], 2, c.rank(0) - 2)
    return product(c, a, centred(c, c[1], 3, c.rank(1) - 1))


def einsum(c: Call) -> str:
    """Operands with their axes lined up, multiplied and summed; two operands as a matrix product."""
    names, output = terms_of(c)
    values = []
    for k, axes in enumerate(names):
        value, axes = diagonal(c, c[k], axes)
        names[k] = axes
        values.append(value)
    value, axes = values[0], names[0]
    for k in range(1, len(values)):
        later = set(output).union(*names[k + 1 :])
        value, axes = contracted(c, value, axes, values[k], names[k], later)
    gone = tuple(d for d, a in enumerate(axes) if a not in output)
    if gone:
        value = c.cast(c.add(ReduceSum(gone, False), value), c.dtype(0))
        axes = [a for a in axes if a in output]
    return c.transpose(value, (axes.index(a) for a in output)) if axes != output else value


def terms_of(c: Call) -> tuple[list[list[str]], list[str]]:
    """The axis names of each operand and of the output; an ellipsis is names from its end."""
    text = str(c.attr("equation", "")).replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(c):
        raise Rejected(f"equation {text!r} for {len(c)} operands")
    names, longest = [], 0
    for k, term in enumerate(terms):
        before, dots, after = term.partition("...")
        count = c.rank(k) - len(before) - len(after) if dots else 0
        longest = max(longest, count)
        names.append([*before, *(f".{count - n}" for n in range(count)), *after])
        if len(names[-1]) != c.rank(k):
            raise Rejected(f"operand {k} of equation {text!r} has rank {c.rank(k)}")
    dotted = [f".{longest - n}" for n in range(longest)]
    if not arrow:
        letters = [a for term in terms for a in term.replace("...", "")]
        return names, dotted + sorted(a for a in set(letters) if letters.count(a) == 1)
    before, dots, after = right.partition("...")
    return names, [*before, *(dotted if dots else []), *after]


def diagonal(c: Call, value: str, axes: list[str]) -> tuple[str, list[str]]:
    """A repeated axis is a diagonal: every (extent + 1)-th element of the two merged."""
    while len(set(axes)) < len(axes):
        name = next(a for a in axes if axes.count(a) > 1)
        first, second = [d for d, a in enumerate(axes) if a == name][:2]
        rest = [d for d in range(len(axes)) if d not in (first, second)]
        value = c.transpose(value, (*rest, first, second))
        *outer, extent, other = c.numbers(value)
        if extent != other:
            raise Rejected(f"the diagonal of {extent} x {other}")
        merged = c.reshape(value, (*outer, extent * extent))
        value = c.slice(merged, len(outer), None, None, extent + 1)
        axes = [*(axes[d] for d in rest), name]
    return value, axes


def contracted(
    c: Call, x: str, a: list[str], y: str, b: list[str], later: set[str]
) -> tuple[str, list[str]]:
    """The product of two operands, summed over the axes that nobody needs later."""
    x, a = summed_alone(c, x, a, set(b) | later)
    y, b = summed_alone(c, y, b, set(a) | later)
    extents: dict[str, Extent] = {}
    for value, axes in ((x, a), (y, b)):
        for name, e in zip(axes, c.shape(value), strict=True):
            extents[name] = e if extents.get(name, 1) == 1 else extents[name]
    both = [n for n in a if n in b]
    inner = [n for n in both if n not in later and size(c, x, a, n) == size(c, y, b, n)]
    batch = [n for n in both if n not in inner]
    only_a, only_b = [n for n in a if n not in both], [n for n in b if n not in both]

    def matrix(value: str, axes: list[str], *groups: list[str]) -> str:
        value = c.transpose(value, (axes.index(n) for n in (*batch, *groups[0], *groups[1])))
        lead = [size(c, value, [*batch, *groups[0], *groups[1]], n) for n in batch]
        return c.reshape(value, (*lead, *(product_of(extents, g) for g in groups)))

    left = matrix(x, a, only_a, inner)
    right = matrix(y, b, inner, only_b)
    result = c.cast(c.add(MatMul(), left, right), c.dtype(0))
    order = [*batch, *only_a, *only_b]
    result = c.reshape(result, [extents[n] for n in order])
    gone = tuple(d for d, n in enumerate(order) if n not in later)
    if gone:
        result = c.cast(c.add(ReduceSum(gone, False), result), c.dtype(0))
    return result, [n for n in order if n in later]


def summed_alone(c: Call, x: str, axes: list[str], kept: set[str]) -> tuple[str, list[str]]:
    """x summed over the axes that only it has."""
    gone = tuple(d for d, n in enumerate(axes) if n not in kept)
    if not gone:
        return x, axes
    return c.cast(c.add(ReduceSum(gone, False), x), c.dtype(0)), [n for n in axes if n in kept]


def size(c: Call, value: str, axes: list[str], name: str) -> Extent:
    return c.shape(value)[axes.index(name)]


def product_of(extents: dict[str, Extent], names: list[str]) -> Extent:
    total: Extent = 1
    for name in names:
        total = total * extents[name]
    return total


RULES: dict[str, Rule] = {
    "MatMul": matmul,
    "Gemm": gemm,
    "MatMulInteger": matmul_integer,
    "Einsum": einsum,
}
