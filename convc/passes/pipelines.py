"""The pipelines: which passes run, in which order, and why."""

from __future__ import annotations

from convc.passes.eliminate_dead_code import EliminateDeadCode
from convc.passes.fold_batch_norm import FoldBatchNorm
from convc.passes.fold_constants import FoldConstants
from convc.passes.manager import Pipeline
from convc.passes.sink_transposes import SinkTransposes

INFERENCE = Pipeline(
    "inference",
    (
        (EliminateDeadCode(), "later passes count uses: only real ones"),
        (FoldConstants(), "transposed and reshaped weights become plain ones"),
        (SinkTransposes(), "convolutions meet their batch norms and residuals without a transpose between"),
        (FoldBatchNorm(), "a convolution keeps its weights and one bias"),
        (EliminateDeadCode(), "what the passes replaced"),
    ),
)

PIPELINES = {p.name: p for p in (INFERENCE,)}
"""Every pipeline by its name."""
