"""Named rewrites, each kernel -> kernel. A schedule is a list of them; each shows a before and after that is tested."""

from convc.loops.rewrites.arithmetic import split_fma
from convc.loops.rewrites.guards import speculate, unswitch, use_border
from convc.loops.rewrites.memory import pad_extent, relayout, stage
from convc.loops.rewrites.nest import (
    bind,
    drop_unit_loops,
    fuse,
    parallelize,
    reorder,
    sink,
    split,
    unroll,
    vectorize,
)
from convc.loops.rewrites.prefetch import Stream, prefetch_block, prefetch_results
from convc.loops.rewrites.reduction import (
    carry,
    is_sum,
    reduction_over,
    split_reduction,
    sum_apart,
)

__all__ = [
    "Stream",
    "bind",
    "carry",
    "drop_unit_loops",
    "fuse",
    "is_sum",
    "pad_extent",
    "parallelize",
    "prefetch_block",
    "prefetch_results",
    "reduction_over",
    "relayout",
    "reorder",
    "sink",
    "speculate",
    "split",
    "split_fma",
    "split_reduction",
    "stage",
    "sum_apart",
    "unroll",
    "unswitch",
    "use_border",
    "vectorize",
]
