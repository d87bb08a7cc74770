"""Matrix products, reductions, norms and losses."""

from __future__ import annotations

from convc.ops.loss import SigmoidCrossentropy, SoftmaxCrossentropy, SparseSoftmaxCrossentropy
from convc.ops.matmul import MatMul
from convc.ops.norm import (
    BatchNorm,
    BatchNormTraining,
    LayerNorm,
    LogSoftmax,
    MaskedBatchNorm,
    Softmax,
)
from convc.ops.reduce import (
    ArgMax,
    FirstEqual,
    ReduceMax,
    ReduceMean,
    ReduceMin,
    ReduceProd,
    ReduceSum,
)
from tests.ops.cases.case import Case, N, bf16, boolean, f16, f32, i8, i32, i64, u8

MATMUL = [
    Case("mat_mul-plain", MatMul(), (f32(N, 7), f32(7, 5))),
    Case("mat_mul-batch", MatMul(), (f32(N, 4, 7), f32(N, 7, 5))),
    Case("mat_mul-broadcast", MatMul(), (f32(2, 1, 4, 7), f32(3, 7, 5))),
    Case("mat_mul-shared", MatMul(), (f32(N, 3, 4, 7), f32(7, 5))),
    Case("mat_mul-shared-left", MatMul(), (f32(4, 7), f32(N, 7, 5))),
    Case("mat_mul-outer", MatMul(), (f32(N, 1), f32(1, 5))),
    Case("mat_mul-row", MatMul(), (f32(1, 33), f32(33, 17))),
    Case("mat_mul-int8", MatMul(), (u8(N, 9), i8(9, 5)), ((0, 255), (-128, 127))),
    Case("mat_mul-bfloat16", MatMul(), (bf16(N, 9), bf16(9, 5))),
    Case("mat_mul-float16", MatMul(), (f16(N, 9), f16(9, 5))),
]

REDUCE = [
    Case("reduce_sum-last", ReduceSum((-1,)), (f32(N, 5, 7),)),
    Case("reduce_sum-first", ReduceSum((0,)), (f32(N, 5, 7),)),
    Case("reduce_sum-two", ReduceSum((1, 3), keepdims=True), (f32(N, 5, 2, 7),)),
    Case("reduce_sum-all", ReduceSum((0, 1)), (f32(N, 5),)),
    Case("reduce_sum-none", ReduceSum(), (f32(N, 5),)),
    Case("reduce_sum-one", ReduceSum((1,)), (f32(N, 1, 5),)),
    Case("reduce_sum-int8", ReduceSum((1,)), (i8(N, 200),), ((-128, 127),)),
    Case("reduce_sum-bfloat16", ReduceSum((1,)), (bf16(N, 50),)),
    Case("reduce_mean-pixels", ReduceMean((2, 3)), (f32(N, 5, 7, 3),)),
    Case("reduce_mean-keep", ReduceMean((2, 3), True), (f32(N, 5, 7, 3),)),
    Case("reduce_mean-batch", ReduceMean((0,)), (f32(N, 5),)),
    Case("reduce_mean-float16", ReduceMean((1,)), (f16(N, 50),)),
    Case("reduce_max-pixels", ReduceMax((2, 3)), (f32(N, 5, 7, 3),)),
    Case("reduce_max-keep", ReduceMax((1,), True), (f32(N, 5, 7),)),
    Case("reduce_max-int32", ReduceMax((1,)), (i32(N, 5),)),
    Case("reduce_min", ReduceMin((1,)), (f32(N, 5, 7),)),
    Case("reduce_prod", ReduceProd((1,)), (f32(N, 5, 7),)),
    Case("arg_max", ArgMax(), (f32(N, 10),)),
    Case("arg_max-ties", ArgMax(1), (i32(N, 10, 4),), ((0, 2),)),
    Case("arg_max-keep", ArgMax(1, keepdims=True), (f32(N, 10, 4),)),
    Case("first_equal", FirstEqual(1), (i32(N, 10, 4), i32(N, 1, 4)), ((0, 4), (0, 4))),
    Case(
        "first_equal-keep",
        FirstEqual(-1, True),
        (f32(N, 300), f32(N, 1)),
        ((-0.05, 0.05), (-0.05, 0.05)),
    ),
]

NORM = [
    Case("softmax", Softmax(), (f32(N, 10),)),
    Case("softmax-channels", Softmax(1), (f32(N, 5, 3, 2),)),
    Case("softmax-large", Softmax(), (f32(N, 10),), ((-300, 300),)),
    Case("softmax-float16", Softmax(), (f16(N, 10),)),
    Case("log_softmax", LogSoftmax(), (f32(N, 10),)),
    Case("log_softmax-channels", LogSoftmax(1), (f32(N, 5, 3),), ((-300, 300),)),
    Case(
        "batch_norm", BatchNorm(), (f32(N, 5, 4, 3), *[f32(5)] * 4), (*[(-3.0, 3.0)] * 4, (0.1, 4))
    ),
    Case(
        "batch_norm-last",
        BatchNorm(-1, 1e-5),
        (f32(N, 5), *[f32(5)] * 4),
        (*[(-3.0, 3.0)] * 4, (0.1, 4)),
    ),
    Case(
        "masked_batch_norm",
        MaskedBatchNorm(),
        (f32(N, 6, 5), *[f32(5)] * 4, boolean(N, 6)),
        (*[(-3.0, 3.0)] * 4, (0.1, 4), (0, 1)),
    ),
    Case("batch_norm_training", BatchNormTraining(), (f32(N, 5, 4, 3), f32(5), f32(5))),
    Case("batch_norm_training-last", BatchNormTraining(-1, 1e-5), (f32(N, 7, 5), f32(5), f32(5))),
    Case("layer_norm", LayerNorm(), (f32(N, 4, 9), f32(9), f32(9))),
    Case("layer_norm-channels", LayerNorm((1,), 1e-5), (f32(N, 9, 3, 2), f32(9), f32(9))),
    Case("layer_norm-two", LayerNorm((1, 3)), (f32(N, 4, 2, 5), f32(4, 5), f32(4, 5))),
    Case("layer_norm-swapped", LayerNorm((3, 1)), (f32(N, 4, 2, 5), f32(5, 4), f32(5, 4))),
]

LOSS = [
    Case("softmax_crossentropy", SoftmaxCrossentropy(), (f32(N, 10), f32(N, 10)), ((-3, 3), (0, 1))),
    Case("softmax_crossentropy-large", SoftmaxCrossentropy(), (f32(N, 2, 10), f32(N, 2, 10)),
         ((-300, 300), (0, 1))),
    Case("sparse_softmax_crossentropy", SparseSoftmaxCrossentropy(), (f32(N, 10), i64(N)), ((-3, 3), (0, 9))),
    Case("sparse_softmax_crossentropy-outside", SparseSoftmaxCrossentropy(), (f32(N, 2, 4), u8(N, 2)),
         ((-300, 300), (0, 6))),
    Case("sigmoid_crossentropy", SigmoidCrossentropy(), (f32(N, 5), f32(N, 5)), ((-3, 3), (0, 1))),
    Case("sigmoid_crossentropy-wide", SigmoidCrossentropy(), (f32(N, 50), f32(1)), ((-80, 80), (0, 1))),
]  # fmt: skip
