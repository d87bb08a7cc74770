"""The pipelines: which passes run, in which order, and why."""

from __future__ import annotations

from dataclasses import replace

from convc.errors import UsageError
from convc.passes.choose_algorithm import Algorithms, ChooseAlgorithm
from convc.passes.decompose import Decompose
from convc.passes.eliminate_common_subexpressions import EliminateCommonSubexpressions
from convc.passes.eliminate_dead_code import EliminateDeadCode
from convc.passes.filter_in_training import FilterInTraining
from convc.passes.fold_batch_norm import FoldBatchNorm
from convc.passes.fold_constants import FoldConstants
from convc.passes.fold_padding import FoldPadding
from convc.passes.hoist_transposes import HoistTransposes
from convc.passes.manager import Pass, Pipeline
from convc.passes.simplify_algebra import SimplifyAlgebra
from convc.passes.simplify_shapes import SimplifyShapes
from convc.passes.sink_transposes import SinkTransposes
from convc.passes.split_rows import SplitRows

INFERENCE = Pipeline(
    "inference",
    (
        (EliminateDeadCode(), "later passes count uses: only real ones"),
        (FoldConstants(), "transposed and reshaped weights become plain ones"),
        (SimplifyAlgebra(), "identities and dropouts would stand between what belongs together"),
        (SimplifyShapes(keep_transposes=True), "fewer transposes to move"),
        (
            SinkTransposes(),
            "convolutions meet their batch norms and residuals without a transpose between",
        ),
        (
            HoistTransposes(),
            "what an input goes through first meets its convolution in the same order",
        ),
        (FoldPadding(), "before batch norms, which look at a convolution's padding"),
        (FoldBatchNorm(), "a convolution keeps its weights and one bias"),
        (
            Decompose(),
            "what is left has formulas or loops: no named operator needs a fold any more",
        ),
        (FoldConstants(), "constants that the decompositions brought"),
        (SimplifyAlgebra(), "limits and neutral constants that the folds brought together"),
        (SimplifyShapes(), "reshapes that the decompositions and the moved transposes brought"),
        (
            EliminateCommonSubexpressions(),
            "sharing a value earlier would keep folds from its only reader",
        ),
        (ChooseAlgorithm(), "it looks at convolutions as they will be computed"),
        (SplitRows(), "last: it takes along what follows a convolution"),
    ),
)

INFERENCE_SIZE = Pipeline(
    "inference-size",
    tuple(
        (ChooseAlgorithm(growth=1.0), why) if isinstance(step, ChooseAlgorithm) else (step, why)
        for step, why in INFERENCE.steps
    ),
)
"""For small artifacts: weights take about what the model's take."""

INFERENCE_CUDA = Pipeline("inference-cuda", INFERENCE.steps[:-2])
"""Without the choice of algorithms, whose costs are those of a CPU."""

EXACT = Pipeline(
    "exact",
    (
        (EliminateDeadCode(), "nothing to compute for unused values"),
        (FoldConstants(), "transposed and reshaped weights become plain ones"),
        (SimplifyAlgebra(), "rules that keep each result (zeros may change their sign)"),
        (SimplifyShapes(keep_transposes=True), "movements only"),
        (SinkTransposes(), "movements only"),
        (HoistTransposes(), "movements only"),
        (FoldPadding(), "the same taps on the same zeros"),
        (Decompose(), "what is left has formulas or loops"),
        (FoldConstants(), "constants that the decompositions brought"),
        (SimplifyShapes(), "reshapes that the decompositions brought"),
        (EliminateCommonSubexpressions(), "the same value once"),
    ),
)
"""Keeps the operations of the model as written, in float32, weights included."""

TRAINING = Pipeline(
    "training",
    (
        (EliminateDeadCode(), "nothing to compute for unused values"),
        (FoldConstants(), "what depends on no parameter"),
        (SimplifyAlgebra(), "identities that gradients brought"),
        (SimplifyShapes(keep_transposes=True), "fewer transposes to move"),
        (SinkTransposes(), "convolutions meet what follows without a transpose between"),
        (Decompose(), "what is left has formulas or loops"),
        (FoldConstants(), "constants that the decompositions brought"),
        (SimplifyAlgebra(), "neutral constants that the decompositions brought"),
        (SimplifyShapes(), "reshapes that the decompositions and the moved transposes brought"),
        (EliminateCommonSubexpressions(), "the backward pass meets what the forward pass computed"),
        (FilterInTraining(), "it looks at convolutions as they will be computed"),
    ),
)
"""For graphs of whole training steps, whose parameters are inputs: nothing is folded into weights."""

TRAINING_CUDA = Pipeline("training-cuda", TRAINING.steps[:-1])
"""Without the choice of algorithms, whose costs are those of a CPU."""

PIPELINES = {
    p.name: p for p in (INFERENCE, INFERENCE_SIZE, INFERENCE_CUDA, EXACT, TRAINING, TRAINING_CUDA)
}
"""Every pipeline by its name."""

MODES = ("inference", "exact", "training")
"""What a user chooses from."""


GOALS = ("speed", "size")
"""What a compilation may be optimized for."""


def pipeline_for(mode: str, kind: str, optimize: str = "speed") -> Pipeline:
    """The pipeline of a mode for a kind of target and a goal. UsageError for a mode or a goal that there isn't."""
    if mode not in MODES:
        raise UsageError(f"mode: expected one of {', '.join(MODES)}, got {mode!r}")
    if optimize not in GOALS:
        raise UsageError(f"optimize: expected one of {', '.join(GOALS)}, got {optimize!r}")
    name = mode if kind == "cpu" else f"{mode}-{kind}"
    return PIPELINES.get(f"{name}-{optimize}", PIPELINES.get(name, PIPELINES[mode]))


def with_algorithms(pipeline: Pipeline, chosen: Algorithms) -> Pipeline:
    """The pipeline with algorithms that were chosen in place of estimates."""

    def told(step: Pass) -> Pass:
        return (
            replace(step, chosen=chosen) if isinstance(step, ChooseAlgorithm | SplitRows) else step
        )

    return Pipeline(pipeline.name, tuple((told(step), why) for step, why in pipeline.steps))


def before_algorithms(pipeline: Pipeline) -> tuple[Pipeline, ChooseAlgorithm | None]:
    """The passes of a pipeline up to its choice of algorithms, and that choice; all passes where it has none."""
    for place, (step, _) in enumerate(pipeline.steps):
        if isinstance(step, ChooseAlgorithm):
            return Pipeline(pipeline.name, pipeline.steps[:place]), step
    return pipeline, None
