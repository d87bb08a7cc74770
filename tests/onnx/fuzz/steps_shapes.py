"""Steps that move elements: shapes, slices, gathering, scattering, resizing."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.onnx.fuzz.grower import Grower, Unfit, Value


def anything(g: Grower) -> Value:
    return g.value(lambda v: v.rank > 0)


def reshape(g: Grower) -> Value:
    """Neighbouring dimensions merged, others split, one perhaps -1."""
    x = anything(g)
    shape: list[int] = []
    for extent in x.shape:
        if shape and g.chance(0.4):
            shape[-1] *= extent
        elif extent % 2 == 0 and g.chance(0.4):
            shape += [2, extent // 2]
        else:
            shape.append(extent)
    if g.chance(0.5):
        shape[g.between(0, len(shape) - 1)] = -1
    elif shape[0] == x.shape[0] and g.chance(0.5):
        shape[0] = 0
    return g.add("Reshape", x, g.ints(*shape), exact=True)


def flatten(g: Grower) -> Value:
    x = anything(g)
    return g.add("Flatten", x, exact=True, axis=g.between(-x.rank, x.rank))


def transpose(g: Grower) -> Value:
    x = anything(g)
    if g.chance(0.1):
        return g.add("Transpose", x, exact=True)
    return g.add("Transpose", x, exact=True, perm=g.rng.permutation(x.rank).tolist())


def squeeze(g: Grower) -> Value:
    if g.chance(0.5):
        x = g.value(lambda v: 1 in v.shape)
        ones = [d for d, e in enumerate(x.shape) if e == 1]
        return g.add("Squeeze", x, g.ints(g.among(ones)) if g.chance(0.7) else None, exact=True)
    x = g.value(lambda v: v.rank < 4)
    return g.add("Unsqueeze", x, g.ints(g.between(-x.rank - 1, x.rank)), exact=True)


def concat(g: Grower) -> Value:
    x = anything(g)
    axis = g.between(0, x.rank - 1)

    def fits(v: Value) -> bool:
        same = v.array.dtype == x.array.dtype and v.rank == x.rank
        return same and v.shape[:axis] + v.shape[axis + 1 :] == x.shape[:axis] + x.shape[axis + 1 :]

    others = [g.value(fits) for _ in range(g.between(0, 2))]
    if g.chance(0.4):
        shape = (*x.shape[:axis], g.between(1, 3), *x.shape[axis + 1 :])
        others.append(g.operand(g.drawn(shape, x.array.dtype.name)))
    values = [x, *others]
    g.rng.shuffle(values)
    return g.add("Concat", *values, exact=True, axis=axis - x.rank if g.chance(0.3) else axis)


def split(g: Grower) -> list[Value]:
    x = g.value(lambda v: v.rank > 0 and max(v.shape) > 1)
    axis = int(np.argmax(x.shape))
    extent = x.shape[axis]
    if g.chance(0.4) and g.opset >= 18:
        count = g.between(1, min(3, extent))
        return g.node("Split", x, outputs=count, exact=True, axis=axis, num_outputs=count)
    first = g.between(1, extent - 1)
    return g.node("Split", x, g.ints(first, extent - first), outputs=2, exact=True, axis=axis)


def slice_(g: Grower) -> Value:
    """Along some axes, with steps of both signs and bounds that reach outside."""
    x = anything(g)
    axes = [d for d in range(x.rank) if g.chance(0.5)] or [0]
    starts, ends, steps = [], [], []
    for d in axes:
        extent, step = x.shape[d], g.among([1, 1, 1, 2, -1, -2])
        low, high = sorted((g.between(0, extent), g.between(0, extent)))
        high = max(high, low + 1)
        bounds = (low, high) if step > 0 else (high - 1, low - 1 if low else -extent - 1)
        starts.append(bounds[0] - extent if g.chance(0.2) and bounds[0] < extent else bounds[0])
        ends.append(
            g.among([np.iinfo(np.int64).max, 1000]) if step > 0 and g.chance(0.2) else bounds[1]
        )
        steps.append(step)
    return g.add(
        "Slice", x, g.ints(*starts), g.ints(*ends), g.ints(*axes), g.ints(*steps), exact=True
    )


def pad(g: Grower) -> Value:
    x = g.floating(1, 2, 3, 4)
    mode = g.among(["constant", "constant", "reflect", "edge", "wrap"])
    if mode == "wrap" and g.opset < 19:
        raise Unfit
    low = -1 if mode == "constant" and min(x.shape) > 2 and g.chance(0.3) else 0
    most = min(x.shape) - 1 if mode in ("reflect", "wrap") else 2
    pads = g.ints(*(g.between(low, min(2, most)) for _ in range(2 * x.rank)))
    value = g.weight(g.drawn(())) if mode == "constant" and g.chance(0.5) else None
    return g.add("Pad", x, pads, value, exact=True, mode=mode)


def expand(g: Grower) -> Value:
    x = g.value(lambda v: v.rank < 5)
    shape = [g.between(1, 3) if e == 1 else g.among([e, 1]) for e in x.shape]
    if g.chance(0.4):
        shape.insert(0, g.between(1, 3))
    return g.add("Expand", x, g.ints(*shape), exact=True)


def tile(g: Grower) -> Value:
    x = anything(g)
    return g.add("Tile", x, g.ints(*(g.between(1, 2) for _ in x.shape)), exact=True)


def shuffle_blocks(g: Grower) -> Value:
    x = g.floating(4)
    _, c, h, w = x.shape
    if c % 4 == 0:
        return g.add("DepthToSpace", x, exact=True, blocksize=2, mode=g.among(["DCR", "CRD"]))
    if h % 2 == w % 2 == 0:
        return g.add("SpaceToDepth", x, exact=True, blocksize=2)
    raise Unfit


def gather(g: Grower) -> Value:
    x = anything(g)
    axis = g.between(0, x.rank - 1)
    extent = x.shape[axis]
    shape = g.among([(), (2,), (2, 3), (1,)])
    dtype = g.among([np.int64, np.int32])
    indices = g.operand(np.asarray(g.rng.integers(-extent, extent, shape)).astype(dtype))
    return g.add("Gather", x, indices, exact=True, axis=axis)


def gather_elements(g: Grower) -> Value:
    x = anything(g)
    axis = g.between(0, x.rank - 1)
    shape = list(x.shape)
    shape[axis] = g.between(1, 3)
    indices = g.operand(np.asarray(g.rng.integers(0, x.shape[axis], shape)).astype(np.int64))
    return g.add("GatherElements", x, indices, exact=True, axis=axis)


def gather_nd(g: Grower) -> Value:
    x = g.value(lambda v: v.rank > 1)
    depth = g.between(1, x.rank)
    rows = [g.rng.integers(0, e, (3,)) for e in x.shape[:depth]]
    return g.add("GatherND", x, g.operand(np.stack(rows, -1).astype(np.int64)), exact=True)


def scatter(g: Grower) -> Value:
    """ScatterElements or ScatterND to places that differ."""
    x = g.floating(1, 2, 3)
    reduction: dict[str, Any] = (
        {"reduction": g.among(["add", "mul"])} if g.chance(0.3) and g.opset >= 16 else {}
    )
    if g.chance(0.5):
        axis = g.between(0, x.rank - 1)
        count = g.between(1, x.shape[axis])
        shape = [count if d == axis else e for d, e in enumerate(x.shape)]
        order = np.argsort(g.rng.random(x.shape), axis=axis).take(range(count), axis)
        return g.add("ScatterElements", x, g.operand(order.astype(np.int64)),
                     g.operand(g.drawn(shape)), exact=not reduction, axis=axis, **reduction)  # fmt: skip
    count = g.between(1, x.shape[0])
    rows = g.rng.permutation(x.shape[0])[:count].reshape(-1, 1).astype(np.int64)
    updates = g.operand(g.drawn((count, *x.shape[1:])))
    return g.add("ScatterND", x, g.operand(rows), updates, exact=not reduction, **reduction)


def top_k(g: Grower) -> list[Value]:
    x = g.value(lambda v: v.exact and v.is_float and v.rank > 0)
    axis = g.between(0, x.rank - 1)
    if len(np.unique(x.array)) != x.array.size:
        raise Unfit  # the order of equals
    k = g.ints(g.between(1, x.shape[axis]))
    return g.node("TopK", x, k, outputs=2, exact=True, axis=axis, largest=int(g.chance(0.6)))[::-1]


def triangle(g: Grower) -> Value:
    if g.opset < 14:
        raise Unfit
    k = g.weight(np.array(g.between(-2, 2), np.int64)) if g.chance(0.6) else None
    return g.add("Trilu", g.floating(2, 3), k, exact=True, upper=int(g.chance(0.5)))


def one_hot(g: Grower) -> Value:
    indices = g.given(np.asarray(g.rng.integers(-3, 3, (g.between(1, 4),))).astype(np.int64))
    values = g.weight(g.drawn((2,)))
    return g.add(
        "OneHot",
        indices,
        g.weight(np.array(g.between(3, 5), np.int64)),
        values,
        exact=True,
        axis=g.among([-1, 0]),
    )


def resize(g: Grower) -> Value:
    x = g.value(lambda v: v.array.dtype.name == g.dtype == "float32" and v.rank == 4)
    mode = g.among(["nearest", "linear", "cubic"])
    coordinates = g.among(["half_pixel", "asymmetric", "align_corners"])
    attributes: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attributes["nearest_mode"] = g.among(
            ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
        )
    if mode == "cubic" and g.chance(0.5):
        attributes["cubic_coeff_a"] = -0.5
    if g.chance(0.5):
        sizes = [*x.shape[:2], *(g.between(1, 2 * e) for e in x.shape[2:])]
        return g.add("Resize", x, None, None, g.ints(*sizes), exact=mode == "nearest", **attributes)
    scales = np.array([1, 1, *g.rng.choice([0.5, 2.0, 3.0, 1.5], 2)], np.float32)
    return g.add("Resize", x, None, g.weight(scales), exact=mode == "nearest", **attributes)


def shape_arithmetic(g: Grower) -> Value:
    """What exporters write for view(x.size(0), -1)."""
    x = g.value(lambda v: v.rank > 1)
    size = g.add(
        "Gather", g.add("Shape", x, exact=True), g.weight(np.array(0, np.int64)), exact=True, axis=0
    )
    wanted = g.add(
        "Concat", g.add("Unsqueeze", size, g.ints(0), exact=True), g.ints(-1), exact=True, axis=0
    )
    return g.add("Reshape", x, wanted, exact=True)


STEPS = (
    reshape, flatten, transpose, transpose, squeeze, concat, concat, split, slice_, slice_, pad, pad, expand, tile,
    shuffle_blocks, gather, gather_elements, gather_nd, scatter, top_k, triangle, one_hot, resize, resize,
    shape_arithmetic,
)  # fmt: skip
