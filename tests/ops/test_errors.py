"""What operators say about inputs and attributes that don't fit: one line, with expectation and value."""

from __future__ import annotations

import re

import pytest

from convc.graph.op import Op, OpError
from convc.ops.activations import Relu
from convc.ops.broadcasting import Add, Where
from convc.ops.conv import Conv2d, ConvTranspose2d
from convc.ops.elementwise import Clip, Exp, Not
from convc.ops.matmul import MatMul
from convc.ops.norm import BatchNorm, LayerNorm, Softmax
from convc.ops.pool import AvgPool2d, MaxPool2d
from convc.ops.reduce import ArgMax, ReduceSum
from convc.ops.resize import Resize2d
from convc.ops.shape import (
    Broadcast,
    Concat,
    DepthToSpace,
    Gather,
    Pad,
    Reshape,
    Slice,
    SpaceToDepth,
    Transpose,
)
from convc.ops.warp import AffineWarp
from convc.types import TensorType
from tests.ops.cases.case import N, bf16, boolean, f32, i32, i64

ROWS: list[tuple[Op, tuple[TensorType, ...], str]] = [
    (AffineWarp(), (f32(N, 4, 4, 3), f32(N, 3, 3)),
     "affine_warp: matrix expects shape [N, 2, 3], got [N, 3, 3]"),
    (AffineWarp(fill_mode="mirror"), (f32(N, 4, 4, 3), f32(N, 2, 3)),
     "affine_warp: fill_mode expects one of constant, nearest, reflect, wrap, "
     "grid-constant, grid-wrap, got 'mirror'"),
    (AffineWarp(axes=(1, 3)), (f32(N, 4, 4, 3), f32(N, 2, 3)),
     "affine_warp: axes expects (1, 2) or (2, 3), got (1, 3)"),
    (Exp(), (i32(3),), "exp: x expects a float dtype, got int32"),
    (Relu(), (boolean(3),), "relu: x expects a number dtype, got bool"),
    (Not(), (f32(3),), "not: x expects dtype bool, got float32"),
    (Clip(0.5, 6), (i32(3),), "clip: min expects an integer as x is int32, got 0.5"),
    (Add(), (f32(2, 3), f32(2, 4)),
     "add: shapes [2, 3] and [2, 4] do not broadcast: dimension 1 is 3 and 4"),
    (Add(), (f32(N, 3), f32(2, 3)),
     "add: shapes [N, 3] and [2, 3] do not broadcast: dimension 0 is N and 2"),
    (Add(), (f32(3), bf16(3)), "add: y expects dtype float32 as the first input, got bfloat16"),
    (Add(), (f32(3),), "add: expects 2 inputs, got 1"),
    (Where(), (f32(3), f32(3), f32(3)), "where: condition expects dtype bool, got float32"),
    (Where(), (boolean(3), f32(3), i32(3)), "where: y expects the dtype of x, float32, got int32"),
    (Conv2d(), (f32(N, 32, 8, 8), f32(4, 16, 3, 3)),
     "conv2d: weight expects 16 input channels per group, x has 32 channels / 1 group"),
    (Conv2d(), (f32(32, 8, 8), f32(4, 16, 3, 3)), "conv2d: x expects rank 4, got float32[32, 8, 8]"),
    (Conv2d(), (f32(N, 2, 2, 8), f32(4, 2, 3, 3)),
     "conv2d: height expects at least 3 padded input elements, got 2"),
    (Conv2d(groups=3), (f32(N, 4, 8, 8), f32(3, 1, 3, 3)),
     "conv2d: input channels must be a multiple of groups = 3, got 4"),
    (Conv2d((0, 1)), (f32(N, 4, 8, 8), f32(3, 4, 3, 3)), "conv2d: stride expects numbers ≥ 1, got (0, 1)"),
    (Conv2d((2, 2)), (f32(1, 2, N, 8), f32(4, 2, 3, 3)), "conv2d: height N expects stride 1, got stride 2"),
    (Conv2d(), (f32(1, 2, 8, 8), bf16(4, 2, 3, 3)),
     "conv2d: weight expects the dtype of x, float32, got bfloat16"),
    (ConvTranspose2d(), (f32(N, 3, 4, 4), f32(2, 3, 3, 3)),
     "conv_transpose2d: weight expects 2 input channels, x has 3"),
    (ConvTranspose2d(padding=((3, 3), (0, 0))), (f32(N, 3, 4, 4), f32(3, 2, 3, 3)),
     "conv_transpose2d: padding (3, 3) leaves nothing of 6 output elements"),
    (MaxPool2d((3, 3)), (f32(N, 3, 2, 8),),
     "max_pool2d: height expects at least 3 padded input elements, got 2"),
    (AvgPool2d(), (i32(N, 3, 8, 8),), "avg_pool2d: x expects a float dtype, got int32"),
    (MatMul(), (f32(N, 3), f32(4, 5)),
     "mat_mul: y expects 3 rows, the columns of x [N, 3], got float32[4, 5]"),
    (MatMul(), (f32(3), f32(3, 5)), "mat_mul: x expects rank 2 or more, got float32[3]"),
    (ReduceSum((2,)), (f32(N, 3),), "reduce_sum: axis expects a number from -2 to 1, got 2"),
    (ReduceSum((1, -1)), (f32(N, 3),), "reduce_sum: axes expects each axis once, got (1, -1)"),
    (ArgMax(), (f32(N, 0),), "arg_max: axis -1 expects at least one element, got float32[N, 0]"),
    (Softmax(3), (f32(N, 3),), "softmax: axis expects a number from -2 to 1, got 3"),
    (BatchNorm(), (f32(N, 3), f32(3), f32(3), f32(4), f32(3)), "batch_norm: mean expects shape [3], got [4]"),
    (LayerNorm((1, 2)), (f32(N, 3, 4), f32(4), f32(3, 4)),
     "layer_norm: gamma expects shape [3, 4], got [4]"),
    (Transpose((0, 0)), (f32(N, 3),), "transpose: perm expects an order of 0 … 1, got (0, 0)"),
    (Reshape((N, 5)), (f32(N, 2, 3),),
     "reshape: shape [N, 5] does not fit x [N, 2, 3]: 5*N elements expected, got 6*N"),
    (Reshape((N, -1)), (f32(4, 3),), "reshape: shape [N, -1] does not fit x [4, 3]"),
    (Reshape((5, -1)), (f32(4, 3),), "reshape: shape [5, -1] does not fit x [4, 3]"),
    (Reshape((-1, -1)), (f32(4, 3),), "reshape: shape expects extents ≥ 0 and one -1 at most, got [-1, -1]"),
    (Broadcast((2, 3)), (f32(4, 3),),
     "broadcast: shapes [4, 3] and [2, 3] do not broadcast: dimension 0 is 4 and 2"),
    (Broadcast((1, 3)), (f32(4, 3),), "broadcast: x [4, 3] does not broadcast to [1, 3]"),
    (Concat(1), (f32(N, 3), f32(4, 3)),
     "concat: input 1 expects float32[N, 3] but for axis 1, got float32[4, 3]"),
    (Slice((0,), (1,), (1,)), (f32(4, 3),), "slice: starts expects 2 entries for x float32[4, 3], got 1"),
    (Slice((0, 0), (1, 1), (1, 0)), (f32(4, 3),), "slice: steps expects numbers other than 0, got (1, 0)"),
    (Slice((1,), (None,), (1,)), (f32(N),),
     "slice: dimension 0 of extent N can only be taken whole, got 1:None:1"),
    (Pad(((0, 0),)), (f32(4, 3),), "pad: pads expects 2 pairs for x float32[4, 3], got 1"),
    (Pad(((3, 0),), "reflect"), (f32(3),), "pad: pads of dimension 0 expect at most 2 (reflect), got (3, 0)"),
    (Pad(((1, 0),), "wrap"), (f32(3),), "pad: mode expects constant, reflect or edge, got 'wrap'"),
    (Pad(((-4, 2),)), (f32(3),), "pad: pads (-4, 2) crop more than the 3 of dimension 0"),
    (Pad(((1, 0),), "edge"), (f32(N),), "pad: dimension 0 of extent N can't be padded by (1, 0)"),
    (Gather(), (f32(3), f32(2)), "gather: indices expects an integer dtype, got float32"),
    (Gather(2), (f32(3), i64(2)), "gather: axis expects a number from -1 to 0, got 2"),
    (DepthToSpace(2), (f32(N, 6, 3, 3),),
     "depth_to_space: channels must be a multiple of block² = 4, got 6"),
    (SpaceToDepth(2), (f32(N, 6, 3, 4),),
     "space_to_depth: height and width must be multiples of 2, got 3 x 4"),
    (Resize2d(), (f32(N, 3, 4, 4),), "resize2d: expects either scale or size, got scale=None, size=None"),
    (Resize2d((2, 0)), (f32(N, 3, 4, 4),), "resize2d: scale expects numbers ≥ 1, got (2, 0)"),
    (Resize2d((2, 2), mode="bilinear"), (i32(N, 3, 4, 4),), "resize2d: x expects a float dtype, got int32"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "types", "message"), ROWS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_misfits_are_named(op: Op, types: tuple[TensorType, ...], message: str) -> None:
    with pytest.raises(OpError, match=f"^{re.escape(message)}$"):
        op.infer(*types)
