"""Steps on elements: functions, broadcasting, comparisons, casts, reductions, norms."""

from __future__ import annotations

import numpy as np

from tests.onnx.fuzz.grower import Grower, Unfit, Value

ROUNDED = ("Sigmoid", "Tanh", "Exp", "Erf", "Softplus", "Softsign", "Sin", "Cos", "Atan", "Sinh")
PLAIN = ("Relu", "Abs", "Neg", "Identity")
STEPPED = ("Floor", "Ceil", "Round", "Sign")
NARROW = ("Erf", "Gelu", "HardSwish")
"""Those that the reference has (or their constants) in float32 alone."""
NEWER = {"Gelu": 20, "Mish": 18, "HardSwish": 14}
REDUCTIONS = (
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceLogSumExp", "ReduceProd",
)  # fmt: skip


def unary(g: Grower) -> Value:
    x = g.floating()
    kind = g.among([*ROUNDED, *PLAIN, *PLAIN, *STEPPED, *NEWER])
    if g.opset < NEWER.get(kind, 0) or (kind in NARROW and g.dtype != "float32"):
        raise Unfit
    if kind in STEPPED and not x.exact:
        raise Unfit
    return g.add(kind, x, exact=kind in PLAIN or kind in STEPPED)


def parametric(g: Grower) -> Value:
    """Functions with attributes."""
    x = g.floating()
    kind = g.among(["LeakyRelu", "Elu", "Celu", "HardSigmoid", "Selu", "ThresholdedRelu", "Shrink"])
    attributes = {}
    if kind in ("LeakyRelu", "Elu", "Celu") and g.chance(0.7):
        attributes["alpha"] = g.among([0.1, 0.5, 1.5])
    if kind == "HardSigmoid":
        attributes = {"alpha": 0.25, "beta": 0.4}
    if kind in ("ThresholdedRelu", "Shrink") and not x.exact:
        raise Unfit
    if kind == "Shrink":
        attributes = {"lambd": 0.3, "bias": g.among([0.0, 0.25])}
    return g.add(kind, x, **attributes)


def safe(g: Grower) -> Value:
    """Functions of positive numbers."""
    x = g.floating()
    positive = g.add("Add", g.add("Abs", x), g.weight(np.array(0.75, x.array.dtype)))
    return g.add(g.among(["Sqrt", "Log", "Reciprocal"]), positive)


def clip(g: Grower) -> Value:
    x = g.floating()
    low, high = sorted(g.drawn((2,)))
    bounds = [g.weight(np.array(b)) if g.chance(0.8) else None for b in (low, high)]
    return g.add("Clip", x, *bounds, exact=True)


def broadcast_shape(g: Grower, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts with another: some extents 1, leading ones gone."""
    kept = [e if g.chance(0.6) else 1 for e in shape]
    return tuple(kept[g.between(0, len(kept)) if g.chance(0.4) else 0 :])


def binary(g: Grower) -> Value:
    """Arithmetic with a constant, an input or another value that broadcasts."""
    x = g.floating()
    kind = g.among(["Add", "Add", "Sub", "Mul", "Mul", "Div", "Max", "Min", "PRelu", "Pow"])
    if kind in ("Div", "Pow"):
        exponents = np.asarray(g.rng.choice([2.0, 3.0, 1.0], broadcast_shape(g, x.shape)))
        second = g.drawn(broadcast_shape(g, x.shape), positive=True)
        return g.add(
            kind, x, g.operand(exponents.astype(x.array.dtype) if kind == "Pow" else second)
        )
    if kind == "PRelu":
        return g.add(kind, x, g.operand(g.drawn(broadcast_shape(g, x.shape))))
    return g.add(kind, *turned(g, x, partner(g, x)), exact=kind in ("Max", "Min"))


def turned(g: Grower, *pair: Value) -> tuple[Value, ...]:
    return pair if g.chance(0.7) else pair[::-1]


def partner(g: Grower, x: Value) -> Value:
    """What broadcasts with x: an earlier value where there is one, or a new constant."""

    def fits(v: Value) -> bool:
        pairs = zip(v.shape[::-1], x.shape[::-1], strict=False)
        return v.array.dtype == x.array.dtype and all(a == b or 1 in (a, b) for a, b in pairs)

    if g.chance(0.5):
        return g.value(fits)
    return g.operand(g.drawn(broadcast_shape(g, x.shape), x.array.dtype.name))


def variadic(g: Grower) -> Value:
    x = g.floating()
    others = [partner(g, x) for _ in range(g.between(0, 2))]
    kind = g.among(["Sum", "Mean", "Max", "Min"])
    return g.add(kind, x, *others, exact=kind in ("Max", "Min"))


def choice(g: Grower) -> Value:
    """A comparison, and what it chooses."""
    x = g.value(lambda v: v.exact and v.array.dtype.name == g.dtype)
    kinds = ["Greater", "Less", "GreaterOrEqual", "LessOrEqual", "Equal"]
    other = g.operand(g.drawn(broadcast_shape(g, x.shape)))
    condition = g.add(g.among(kinds), x, other, exact=True)
    if g.chance(0.3):
        condition = g.add("Not", condition, exact=True)
    if g.chance(0.3):
        bools = g.operand(g.drawn(broadcast_shape(g, condition.shape), "bool"))
        condition = g.add(g.among(["And", "Or", "Xor"]), condition, bools, exact=True)
    if g.chance(0.2):
        return condition
    y = g.operand(g.drawn(broadcast_shape(g, condition.shape)))
    return g.add("Where", condition, *turned(g, x, y), exact=True)


def integers(g: Grower) -> Value:
    """Arithmetic of integers, on an input of its own or an earlier value."""
    dtype = g.among(["int32", "int64", "int8", "uint8", "int16"])
    shape = broadcast_shape(g, g.value().shape)
    x = g.given(g.drawn(shape, dtype))
    y = g.operand(g.drawn(broadcast_shape(g, shape), dtype, positive=True))
    kind = g.among(
        ["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "BitwiseAnd", "BitwiseOr", "Pow"]
    )
    if kind.startswith("Bitwise") and g.opset < 18:
        raise Unfit
    if kind == "Div":  # of negative numbers the reference rounds down, which the text leaves open
        x = g.add("Abs", x, exact=True)
    if kind == "Pow":
        if dtype not in ("int32", "int64"):
            raise Unfit
        y = g.operand(np.asarray(g.rng.integers(0, 4, y.shape)).astype(dtype))
    return g.add(kind, x, y, exact=True)


def cast(g: Grower) -> Value:
    """To another type and, from integers, back to the model's."""
    x = g.value(lambda v: v.exact)
    to = g.among(["float32", "int32", "int64", "bool", g.dtype, g.dtype, "float16", "double"])
    code = {
        "float32": 1,
        "int32": 6,
        "int64": 7,
        "bool": 9,
        "float16": 10,
        "double": 11,
        "float64": 11,
    }
    y = g.add("Cast", x, exact=True, to=code[to])
    return y if y.array.dtype.name == g.dtype else g.add("Cast", y, exact=True, to=code[g.dtype])


def some_axes(g: Grower, rank: int) -> list[int]:
    axes = [d for d in range(rank) if g.chance(0.4)] or [g.between(0, rank - 1)]
    return [a - rank if g.chance(0.3) else a for a in axes]


def reduction(g: Grower) -> Value:
    x = g.floating(1, 2, 3, 4, 5)
    kind = g.among(REDUCTIONS)
    keep = int(g.chance(0.5))
    axes = some_axes(g, x.rank)
    by_input = g.opset >= 18 or (kind == "ReduceSum" and g.opset >= 13)
    exact = kind in ("ReduceMax", "ReduceMin")
    if g.chance(0.1):
        return g.add(kind, x, exact=exact, keepdims=keep)
    if by_input:
        return g.add(kind, x, g.ints(*axes), exact=exact, keepdims=keep)
    return g.add(kind, x, exact=exact, keepdims=keep, axes=axes)


def arg_reduction(g: Grower) -> Value:
    x = g.value(lambda v: v.exact and v.is_float and v.rank > 0)
    axis = g.between(-x.rank, x.rank - 1)
    last = int(g.chance(0.3))
    kind = g.among(["ArgMax", "ArgMin"])
    return g.add(
        kind, x, exact=True, axis=axis, keepdims=int(g.chance(0.5)), select_last_index=last
    )


def cumulative(g: Grower) -> Value:
    x = g.floating(1, 2, 3, 4)
    axis = g.weight(np.array(g.between(-x.rank, x.rank - 1), np.int64))
    return g.add("CumSum", x, axis, exclusive=int(g.chance(0.4)), reverse=int(g.chance(0.4)))


def softmax(g: Grower) -> Value:
    x = g.floating(1, 2, 3, 4)
    kind = g.among(["Softmax", "Softmax", "LogSoftmax", "Hardmax"])
    if kind == "Hardmax" and not x.exact:
        raise Unfit
    return g.add(kind, x, exact=kind == "Hardmax", axis=g.between(-x.rank, x.rank - 1))


def batch_norm(g: Grower) -> Value:
    if g.opset < 14:
        raise Unfit  # the reference takes it for training
    x = g.floating(2, 3, 4, 5)
    c = x.shape[1]
    scale, bias, mean = (g.operand(g.drawn((c,))) for _ in range(3))
    variance = g.operand(g.drawn((c,), positive=True))
    return g.add("BatchNormalization", x, scale, bias, mean, variance, epsilon=1e-3)


def other_norm(g: Grower) -> Value:
    kind = g.among(["LayerNormalization", "InstanceNormalization", "GroupNormalization", "LRN",
                    "LpNormalization", "MeanVarianceNormalization"])  # fmt: skip
    x = g.floating(2, 3, 4)
    match kind:
        case "LayerNormalization":
            axis = g.between(-x.rank, -1)
            shape = x.shape[axis:]
            bias = g.operand(g.drawn(shape)) if g.chance(0.6) else None
            scale = g.operand(g.drawn(shape, positive=True))
            return g.add(kind, x, scale, bias, axis=axis, epsilon=1e-2)
        case "InstanceNormalization" if x.rank > 2:
            return g.add(
                kind, x, *(g.operand(g.drawn((x.shape[1],))) for _ in range(2)), epsilon=1e-2
            )
        # Doubles go through float32 in the reference.
        case "GroupNormalization" if x.rank > 2 and g.opset >= 21 and g.dtype != "float64":
            groups = g.among([k for k in range(1, x.shape[1] + 1) if x.shape[1] % k == 0])
            parameters = (g.operand(g.drawn((x.shape[1],))) for _ in range(2))
            return g.add(kind, x, *parameters, num_groups=groups, epsilon=1e-2)
        case "LRN" if x.rank == 4 and x.shape[0] >= x.shape[1]:  # the reference leaves out the rest
            return g.add(kind, x, size=g.among([1, 3, 5]), alpha=0.2, beta=0.6, bias=1.5)
        case "LpNormalization":
            return g.add(
                kind, x, axis=g.between(0, x.rank - 1), p=2
            )  # the reference sums signs for 1
        case "MeanVarianceNormalization" if x.rank == 4 and x.array.std((0, 2, 3)).min() > 0.1:
            return g.add(kind, x, axes=[0, 2, 3])
    raise Unfit


STEPS = (
    unary, unary, parametric, safe, clip, binary, binary, binary, variadic, choice, integers, cast, reduction,
    reduction, arg_reduction, cumulative, softmax, batch_norm, other_norm,
)  # fmt: skip
