"""Steps with products: convolutions, pools, matrix products, recurrent layers, quantized forms."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.onnx.fuzz.grower import Grower, Value


def image(g: Grower) -> Value:
    """A value with a batch, channels and one to three spatial dimensions."""
    return g.floating(3, 4, 4, 5)


def windows(g: Grower, sizes: tuple[int, ...]) -> dict[str, Any]:
    """Kernel, strides, dilations and pads (or auto_pad) that fit the sizes."""
    kernel = [g.between(1, min(4, s)) for s in sizes]
    strides = [g.between(1, 3) for _ in sizes]
    dilations = [g.among([1, 1, 2]) if k > 1 else 1 for k in kernel]
    found: dict[str, Any] = {"kernel_shape": kernel}
    if g.chance(0.6):
        found["strides"] = strides
    if g.chance(0.4):
        found["dilations"] = dilations
    way = g.rng.random()
    if way < 0.5:
        reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        found["pads"] = [
            g.between(0, min(r, k - 1))
            for _ in range(2)
            for r, k in zip(reach, kernel, strict=True)
        ]
    elif way < 0.8:
        found["auto_pad"] = g.among(["SAME_UPPER", "SAME_LOWER", "VALID"])
        # Where strides leave elements out, "same" means something else to everybody.
        found["strides"] = [min(s, k) for s, k in zip(strides, kernel, strict=True)]
    return found


def groups_of(g: Grower, channels: int) -> int:
    return int(g.among([k for k in range(1, channels + 1) if channels % k == 0]))


def conv(g: Grower) -> Value:
    x = image(g)
    attributes = windows(g, x.shape[2:])
    groups = groups_of(g, x.shape[1])
    outputs = groups * g.between(1, 4)
    w = g.operand(g.drawn((outputs, x.shape[1] // groups, *attributes["kernel_shape"])))
    bias = g.operand(g.drawn((outputs,))) if g.chance(0.5) else None
    if g.chance(0.4):
        del attributes["kernel_shape"]
    y = g.add("Conv", x, w, bias, group=groups, **attributes)
    return g.add("Relu", y) if g.chance(0.3) else y


def conv_transpose(g: Grower) -> Value:
    x = image(g)
    attributes = windows(g, x.shape[2:])
    groups = groups_of(g, x.shape[1])
    strides = attributes.get("strides", [1] * (x.rank - 2))
    if "auto_pad" not in attributes and g.chance(0.4):
        attributes["output_padding"] = [g.between(0, s - 1) for s in strides]
    outputs = g.between(1, 4)
    w = g.operand(g.drawn((x.shape[1], outputs, *attributes["kernel_shape"])))
    bias = g.operand(g.drawn((outputs * groups,))) if groups == 1 and g.chance(0.7) else None
    return g.add("ConvTranspose", x, w, bias, group=groups, **attributes)


def pool(g: Grower) -> list[Value]:
    x = image(g)
    kind = g.among(["MaxPool", "MaxPool", "AveragePool", "AveragePool", "LpPool"])
    attributes = windows(g, x.shape[2:])
    dilates = kind == "MaxPool" or g.opset >= 19
    if "dilations" in attributes and ("auto_pad" in attributes or not dilates):
        del attributes["dilations"]  # which neither reference counts in what is "same"
    padded = "auto_pad" in attributes or (kind == "MaxPool" and "pads" in attributes)
    if not padded and g.chance(0.4) and kind != "LpPool":
        attributes["ceil_mode"] = 1
    if kind == "MaxPool" and (x.rank == 5 or attributes.get("auto_pad") == "SAME_LOWER"):
        attributes |= {"ceil_mode": 0, "auto_pad": "VALID"}  # the reference is wrong with others
        attributes.pop("pads", None)
    if kind == "MaxPool" and "pads" in attributes:  # whose order the reference takes for another
        attributes["pads"] = [min(attributes["pads"])] * 2 * (x.rank - 2)
    if kind == "AveragePool":
        attributes["count_include_pad"] = int(g.chance(0.5))
    if kind == "LpPool":
        attributes["p"] = g.among([1, 2, 3])
    if kind == "MaxPool" and x.exact and x.rank == 4 and x.shape[:2] == (1, 1) and g.chance(0.5):
        largest, where = g.node(kind, x, outputs=2, exact=True, **attributes)
        return [where, largest]
    return g.node(kind, x, exact=kind == "MaxPool", **attributes)


def padded_window(g: Grower) -> Value:
    """A pool or a convolution of what a Pad made, which runtimes take for one operator."""
    x = g.floating(4)
    if g.chance(0.2):
        x = g.given(g.drawn(x.shape, g.among(["int8", "uint8"])))
    pads = g.ints(
        0, 0, *(g.between(0, 2) for _ in range(2)), 0, 0, *(g.between(0, 2) for _ in range(2))
    )
    filler = g.weight(g.drawn((), x.array.dtype.name)) if g.chance(0.3) else None
    wide = g.add("Pad", x, pads, filler, exact=True)
    attributes: dict[str, Any] = {"kernel_shape": [g.between(2, 3) for _ in range(2)]}
    if g.chance(0.3):
        attributes["pads"] = [1, 1, 1, 1]
    match g.among(["MaxPool", "MaxPool", "AveragePool", "Conv"]) if x.is_float else "MaxPool":
        case "MaxPool":
            return g.add("MaxPool", wide, exact=True, **attributes)
        case "AveragePool":
            return g.add("AveragePool", wide, count_include_pad=int(g.chance(0.5)), **attributes)
    w = g.weight(g.drawn((g.between(1, 4), x.shape[1], *attributes["kernel_shape"])))
    return g.add("Conv", wide, w, **attributes)


def global_pool(g: Grower) -> Value:
    kind = g.among(["GlobalAveragePool", "GlobalMaxPool"])
    x = g.floating(4) if kind == "GlobalMaxPool" else image(g)  # the reference knows images alone
    return g.add(kind, x, exact=kind == "GlobalMaxPool")


def product(g: Grower) -> Value:
    """MatMul with broadcast batches, or of vectors."""
    x = g.floating(1, 2, 3, 4)
    inner = x.shape[-1]
    batch = tuple(e if g.chance(0.6) else 1 for e in x.shape[:-2])
    batch = batch[g.between(0, len(batch)) :]
    shape: tuple[int, ...] = (*batch, inner, g.between(1, 9))
    if g.chance(0.1):
        shape = (inner,)
    if g.chance(0.15):
        return g.add(
            "MatMul", g.operand(g.drawn((g.between(1, 4), x.shape[-2] if x.rank > 1 else inner))), x
        )
    return g.add("MatMul", x, g.operand(g.drawn(shape)))


def gemm(g: Grower) -> Value:
    x = g.floating(2)
    turn_a, turn_b = int(g.chance(0.4)), int(g.chance(0.4))
    rows, inner = x.shape[::-1] if turn_a else x.shape
    columns = g.between(1, 9)
    b = g.operand(g.drawn((columns, inner) if turn_b else (inner, columns)))
    c = None
    if g.chance(0.7):
        c = g.operand(
            g.drawn(g.among([(columns,), (rows, columns), (rows, 1), (1, columns), (1,), ()]))
        )
    scales: dict[str, Any] = {"alpha": 0.5, "beta": 1.5} if g.chance(0.3) else {}
    return g.add("Gemm", x, b, c, transA=turn_a, transB=turn_b, **scales)


def einsum(g: Grower) -> Value:
    x = g.floating(3)
    a, b, c = x.shape
    equation, shape = g.among([("abc,cd->abd", (c, 3)), ("abc,acd->abd", (a, c, 2)), ("abc,dbc->ad", (3, b, c)),
                               ("abc,abd->acd", (a, b, 3)), ("abc,b->ca", (b,))])  # fmt: skip
    return g.add("Einsum", x, g.operand(g.drawn(shape)), equation=equation)


def recurrent(g: Grower) -> list[Value]:
    x = g.floating(3)
    kind, gates = g.among([("LSTM", 4), ("GRU", 3), ("RNN", 1)])
    _, batch, width = x.shape
    hidden, direction = g.between(1, 5), g.among(["forward", "reverse", "bidirectional"])
    ways = 2 if direction == "bidirectional" else 1
    scale = np.asarray(0.25).astype(g.dtype)
    w = g.operand(g.drawn((ways, gates * hidden, width)) * scale)
    r = g.operand(g.drawn((ways, gates * hidden, hidden)) * scale)
    b = g.operand(g.drawn((ways, 2 * gates * hidden))) if g.chance(0.7) else None
    lengths = None
    state = g.operand(g.drawn((ways, batch, hidden))) if g.chance(0.4) else None
    inputs = [x, w, r, b, lengths, state]
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if kind == "GRU":
        attributes["linear_before_reset"] = int(g.chance(0.5))
    return g.node(kind, *inputs, outputs=3 if kind == "LSTM" else 2, **attributes)


def fake_quantized(g: Grower) -> Value:
    """Quantized and back, per tensor or per axis."""
    x = g.value(lambda v: v.exact and v.array.dtype == np.float32 and v.rank > 0)
    axis = g.between(0, x.rank - 1)
    per_axis = g.chance(0.4)
    shape = (x.shape[axis],) if per_axis else ()
    # A step that no multiple of 1/64 meets halfway.
    scale = g.weight((np.asarray(g.rng.integers(1, 5, shape)) * 0.0131).astype(np.float32))
    dtype = g.among(["uint8", "int8"])
    zero = g.weight(g.drawn(shape, dtype)) if g.chance(0.8) else None
    attributes: dict[str, Any] = {"axis": axis} if per_axis else {}
    quantized = g.add("QuantizeLinear", x, scale, zero, **attributes)
    return g.add("DequantizeLinear", quantized, scale, zero, **attributes)


def quantized_product(g: Grower) -> Value:
    """Integers times integers, as float."""
    rows, inner, columns = g.between(1, 5), g.between(1, 40), g.between(1, 20)
    a = g.given(np.asarray(g.rng.integers(0, 255, (rows, inner))).astype(np.uint8))
    dtype = g.among(["int8", "uint8"])
    b = g.weight(np.asarray(g.rng.integers(0, 127, (inner, columns))).astype(dtype))
    zero = g.weight(np.array(g.between(0, 255), np.uint8)) if g.chance(0.7) else None
    other = g.weight(np.array(g.between(0, 100), dtype)) if g.chance(0.5) and zero else None
    return g.add("MatMulInteger", a, b, zero, other, exact=True)


def quantized_conv(g: Grower) -> Value:
    channels, size = g.between(1, 4), g.between(4, 8)
    x = g.given(np.asarray(g.rng.integers(0, 255, (1, channels, size, size))).astype(np.uint8))
    attributes = windows(g, x.shape[2:])
    shape = (g.between(1, 5), channels, *attributes["kernel_shape"])
    w = g.weight(np.asarray(g.rng.integers(0, 255, shape)).astype(np.uint8))
    zero = g.weight(np.array(g.between(0, 255), np.uint8)) if g.chance(0.7) else None
    return g.add("ConvInteger", x, w, zero, exact=True, **attributes)


STEPS = (
    conv, conv, conv, conv_transpose, pool, pool, pool, padded_window, global_pool, product, product, gemm, gemm,
    einsum, recurrent, fake_quantized, quantized_product, quantized_conv,
)  # fmt: skip
