"""How convolutions and pools read in ONNX: what they share is their window and its padding."""

from __future__ import annotations

from typing import Any

from convc.errors import UnsupportedError
from convc.onnx.rule import Emitter, cut, pads_of, window
from convc.ops.conv import NARROW, Conv2d, ConvTranspose2d
from convc.ops.pool import AvgPool2d, MaxPool2d
from convc.ops.shape import Pad
from convc.ops.volume import Conv3d, ConvTranspose3d
from convc.ops.windows import lowest


def cropped(e: Emitter, op: Any, x: str) -> tuple[str, dict[str, Any]]:
    """The input of a convolution and its window: where the padding is negative, less of the input."""
    ranges = [(max(0, -before), min(0, after) or None, 1) for before, after in op.padding]
    pads = pads_of([(max(0, before), max(0, after)) for before, after in op.padding])
    whole: list[tuple[int | None, int | None, int]] = [(None, None, 1)] * 2
    return cut(e, x, [*whole, *ranges]), {"strides": op.stride, "pads": pads}


def grown(e: Emitter, op: Any, x: str, w: str) -> str:
    """A transposed convolution: where the padding is negative, zeros around its result."""
    pads = pads_of([(max(0, before), max(0, after)) for before, after in op.padding])
    made = e("ConvTranspose", x, w, kernel_shape=e.types[w].shape[2:], dilations=op.dilation,
             output_padding=op.output_padding, group=op.groups, strides=op.stride, pads=pads)  # fmt: skip
    if not is_grown(op):
        return made
    zeros = pads_of([(0, 0), (0, 0), *((max(0, -b), max(0, -a)) for b, a in op.padding)])
    return e("Pad", made, e.integers(zeros, "pads"), mode="constant")


def is_grown(op: Any) -> bool:
    """Whether a transposed convolution's padding is negative somewhere."""
    return any(p < 0 for pair in op.padding for p in pair)


def conv(e: Emitter, op: Conv2d, x: str, w: str) -> str:
    kind = "ConvInteger" if e.types[x].dtype in NARROW else "Conv"
    kernel = e.types[w].shape[2:]
    part, place = cropped(e, op, x)
    return e(kind, part, w, kernel_shape=kernel, dilations=op.dilation, group=op.groups, **place)


def conv_transpose(e: Emitter, op: ConvTranspose2d, x: str, w: str) -> str:
    return grown(e, op, x, w)


def conv3d(e: Emitter, op: Conv3d, x: str, w: str) -> str:
    kernel = e.types[w].shape[2:]
    part, place = cropped(e, op, x)
    return e("Conv", part, w, kernel_shape=kernel, dilations=op.dilation, group=op.groups, **place)


def conv_transpose3d(e: Emitter, op: ConvTranspose3d, x: str, w: str) -> str:
    return grown(e, op, x, w)


def after_pad(
    e: Emitter, op: MaxPool2d | AvgPool2d, x: str, filler: float
) -> tuple[str, dict[str, Any]]:
    """A pool's input and window where a Pad made that input.

    ONNX Runtime 1.31 moves a Pad of zeros into the pads of a pool, which leave them out of its maxima and means (and
    refuses those that are as large as the window), but not into one that says VALID: its own pads become another Pad.
    """
    if any(p for pair in op.padding for p in pair):
        pads = pads_of(((0, 0), (0, 0), *op.padding))
        x = e("Pad", x, e.integers(pads, "pads"), e.scalar(filler, x), mode="constant")
    return x, {"strides": op.stride, "auto_pad": "VALID"}


def max_pool(e: Emitter, op: MaxPool2d, x: str) -> str:
    place = window(op)
    if e.is_made_by(Pad, x):
        x, place = after_pad(e, op, x, lowest(e.types[x].dtype))
    return e("MaxPool", x, kernel_shape=op.kernel, dilations=op.dilation, **place)


def avg_pool(e: Emitter, op: AvgPool2d, x: str) -> str:
    if op.dilation != (1, 1) and e.opset < 19:
        raise UnsupportedError("a dilated AveragePool needs opset 19")
    dilations = op.dilation if e.opset >= 19 else None
    is_plain = not any(x for pair in op.padding for x in pair)
    counts_all = op.count_include_pad or is_plain
    place = window(op)
    if e.is_made_by(Pad, x):
        if counts_all:
            x, place = after_pad(e, op, x, 0)
        elif e.opset < 18:
            raise UnsupportedError(
                "an AveragePool that leaves out its pads, of what a Pad made, needs opset 18"
            )
    return e("AveragePool", x, kernel_shape=op.kernel, count_include_pad=int(counts_all), dilations=dilations,
             **place)  # fmt: skip
