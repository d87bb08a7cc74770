"""A model written by hand in LLVM IR: y = w * x + 1 over float32[N, 8], one kernel, tasks are the rows.

The kernel reads each row twice through the workspace, so that all parts of a call are exercised.
"""

from __future__ import annotations

import numpy as np

from convc.artifact import Artifact, assemble, entry_info
from convc.codegen.llvmc import compile_object
from convc.target import TARGETS, Target
from convc.types import Dim, DType, TensorType

WIDTH = 8
_TEMPLATE = """
%Call = type { i64, ptr, ptr, ptr, ptr, ptr, ptr, ptr }

; args: x, w, scratch, y, N
define hidden void @NAME_scale(ptr %args, i64 %begin, i64 %end) {
entry:
  %x = load ptr, ptr %args
  %w.at = getelementptr ptr, ptr %args, i64 1
  %w = load ptr, ptr %w.at
  %scratch.at = getelementptr ptr, ptr %args, i64 2
  %scratch = load ptr, ptr %scratch.at
  %y.at = getelementptr ptr, ptr %args, i64 3
  %y = load ptr, ptr %y.at
  %weights = load <8 x float>, ptr %w, align 4
  br label %next
next:
  %i = phi i64 [ %begin, %entry ], [ %i.next, %row ]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %row, label %done
row:
  %offset = mul i64 %i, 8
  %x.row = getelementptr float, ptr %x, i64 %offset
  %s.row = getelementptr float, ptr %scratch, i64 %offset
  %y.row = getelementptr float, ptr %y, i64 %offset
  %v = load <8 x float>, ptr %x.row, align 4
  %p = fmul <8 x float> %v, %weights
  store <8 x float> %p, ptr %s.row, align 4
  %q = load <8 x float>, ptr %s.row, align 4
  %r = fadd <8 x float> %q, splat (float 1.0)
  store <8 x float> %r, ptr %y.row, align 4
  %i.next = add i64 %i, 1
  br label %next
done:
  ret void
}

define hidden i32 @NAME_predict(ptr %call) {
entry:
  %args = alloca [5 x ptr]
  %weights.at = getelementptr %Call, ptr %call, i64 0, i32 1
  %weights = load ptr, ptr %weights.at
  %workspace.at = getelementptr %Call, ptr %call, i64 0, i32 2
  %workspace = load ptr, ptr %workspace.at
  %inputs.at = getelementptr %Call, ptr %call, i64 0, i32 3
  %inputs = load ptr, ptr %inputs.at
  %x = load ptr, ptr %inputs
  %outputs.at = getelementptr %Call, ptr %call, i64 0, i32 4
  %outputs = load ptr, ptr %outputs.at
  %y = load ptr, ptr %outputs
  %symbols.at = getelementptr %Call, ptr %call, i64 0, i32 5
  %symbols = load ptr, ptr %symbols.at
  %n = load i64, ptr %symbols
  %for.at = getelementptr %Call, ptr %call, i64 0, i32 6
  %for = load ptr, ptr %for.at
  %pool.at = getelementptr %Call, ptr %call, i64 0, i32 7
  %pool = load ptr, ptr %pool.at
  store ptr %x, ptr %args
  %a1 = getelementptr ptr, ptr %args, i64 1
  store ptr %weights, ptr %a1
  %a2 = getelementptr ptr, ptr %args, i64 2
  store ptr %workspace, ptr %a2
  %a3 = getelementptr ptr, ptr %args, i64 3
  store ptr %y, ptr %a3
  %alone = icmp eq ptr %for, null
  br i1 %alone, label %one, label %many
one:
  call void @NAME_scale(ptr %args, i64 0, i64 %n)
  ret i32 0
many:
  call void %for(ptr %pool, ptr @NAME_scale, ptr %args, i64 %n)
  ret i32 0
}
"""


def scale_model(
    name: str = "scale", factor: float = 2.0, target: Target = TARGETS["x86-64-v2"]
) -> Artifact:
    """The artifact; its weights are `factor` eight times."""
    n = Dim.symbol("N")
    tensor = TensorType(DType.float32, (n, WIDTH))
    entry = entry_info(
        "predict", f"{name}_predict", [("x", tensor)], [("y", tensor)], n * (4 * WIDTH)
    )
    code = compile_object(_TEMPLATE.replace("NAME", name), target)
    weights = np.full(WIDTH, factor, np.float32)
    return assemble(name, target, [code], [entry], weights, compiler="convc test")


def expected(x: np.ndarray, factor: float = 2.0) -> np.ndarray:
    """What the model computes, in numpy."""
    return x * np.float32(factor) + np.float32(1)
