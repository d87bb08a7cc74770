"""The pipelines for graphs that other runtimes run: what helps any of them, in operators that a format has."""

from __future__ import annotations

from convc.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from convc.passes.eliminate_dead_code import EliminateDeadCode
from convc.passes.fold_batch_norm import FoldBatchNorm
from convc.passes.fold_constants import FoldConstants
from convc.passes.fold_padding import FoldPadding
from convc.passes.hoist_transposes import HoistTransposes
from convc.passes.manager import Pipeline
from convc.passes.permute_flattened_weights import PermuteFlattenedWeights
from convc.passes.simplify_algebra import SimplifyAlgebra
from convc.passes.simplify_shapes import SimplifyShapes
from convc.passes.sink_transposes import SinkTransposes

_MOVES = (
    (EliminateDeadCode(), "later passes count uses: only real ones"),
    (FoldConstants(), "transposed and reshaped weights become plain ones"),
    (SimplifyAlgebra(), "identities and dropouts would stand between what belongs together"),
    (SimplifyShapes(keep_transposes=True), "fewer transposes to move"),
    (SinkTransposes(), "layers for channels-last meet without a transpose between"),
    (PermuteFlattenedWeights(), "the transpose before a flatten goes into the product's weights"),
    (HoistTransposes(), "what an input goes through first meets its convolution in the same order"),
)

_ENDS = (
    (FoldConstants(), "what the folds left of constants"),
    (SimplifyAlgebra(), "limits and neutral constants that the folds brought together"),
    (SimplifyShapes(), "reshapes that the moved transposes brought"),
    (EliminateCommonSubexpressions(), "sharing a value earlier would keep folds from its only reader"),
)  # fmt: skip

EXPORT = Pipeline("export", (*_MOVES, *_ENDS))
"""Movements only: every layer stays, without the transposes between layers."""

OPTIMIZE = Pipeline(
    "optimize",
    (
        *_MOVES,
        (FoldPadding(), "before batch norms, which look at a convolution's padding"),
        (FoldBatchNorm(), "a convolution keeps its weights and one bias"),
        *_ENDS,
    ),
)
"""Batch norms and paddings go into their convolutions besides."""
