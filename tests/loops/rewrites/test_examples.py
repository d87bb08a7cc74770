"""Every rewrite's docstring shows what the rewrite does, and no rewrite changes what a kernel computes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from convc.errors import IRError
from convc.loops import simplify
from convc.loops.interp import run_kernel
from convc.loops.ir import Axis, Const, For, Kernel, Layout, LoopKind, Role, walk
from convc.loops.parser import parse_expr, parse_kernel
from convc.loops.printer import print_kernel
from convc.loops.rewrites import arithmetic, guards, memory, nest, reduction
from convc.loops.simplify import simplify_kernel
from convc.loops.verify import verify_kernel
from convc.types import DType

MODULES = (arithmetic, guards, memory, nest, reduction, simplify)

# The parameters of examples that show only a kernel's body.
FLAT = "in x: float32[16], out y: float32[16]"
SQUARE = "in x: float32[8, 8], out y: float32[8, 8]"
ROWS = "in x: float32[4, 8], out y: float32[4]"
STAGED = "in x: float32[8], in w: float32[4, 8], out y: float32[4, 8]"
INOUT = "in x: float32[16], inout y: float32[16]"
ACTIVATION = parse_expr("max(x[c], 0.0)", buffers={"x": DType.float32})

EXAMPLES: dict[str, tuple[str, tuple[Any, ...]]] = {
    "split_fma": (INOUT, ()),
    "speculate": ("", ()),
    "unswitch": ("", ()),
    "use_border": ("", ("x",)),
    "relayout": ("", ("x", Layout((Axis(1), Axis(0)), ((0, 0), (0, 0))))),
    "pad_extent": ("", ("w", 0, 8)),
    "stage": (STAGED, (ACTIVATION, "c", "o", "staged")),
    "split": (FLAT, ("i", 4, "io", "ii")),
    "reorder": (SQUARE, ("i", "j")),
    "fuse": (SQUARE, ("i", "j", "f")),
    "drop_unit_loops": (SQUARE, ()),
    "sink": (ROWS, ("i",)),
    "bind": (FLAT, ("i", LoopKind.unrolled)),
    "unroll": (FLAT, ("i",)),
    "vectorize": (FLAT, ("i",)),
    "parallelize": (FLAT, ("i",)),
    "carry": ("", ("m",)),
    "sum_apart": ("", ("m",)),
    "split_reduction": ("", ("k", 2, 2)),
    "simplify_kernel": (FLAT, ()),
}


def shown() -> dict[str, Callable[..., Kernel]]:
    """The functions of the rewrite modules whose docstrings have an example."""
    return {
        name: function
        for module in MODULES
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and "Before:" in (function.__doc__ or "")
    }


def example(function: Callable[..., Kernel], params: str) -> tuple[Kernel, Kernel]:
    assert function.__doc__ is not None
    texts = function.__doc__.split("Before:")[1].split("After:")
    before, after = (
        t if t.lstrip().startswith("kernel") else f"kernel k({params}) {{ {t} }}" for t in texts
    )
    return parse_kernel(before), parse_kernel(after)


def unrolled(kernel: Kernel) -> Kernel:
    """The kernel with its constant loops unrolled, as registers that have a dimension for one want it."""
    for loop in [s for s in walk(kernel.body) if isinstance(s, For)]:
        if isinstance(loop.extent, Const) and loop.kind is LoopKind.serial:
            kernel = nest.unroll(kernel, loop.var)
    return kernel


def test_every_rewrite_has_an_example() -> None:
    assert shown().keys() == EXAMPLES.keys()
    public = {
        name
        for module in MODULES[:-1]
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_")
    }
    assert public - EXAMPLES.keys() == {"at_loops", "identity_of", "is_sum", "reduction_over"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_docstring_shows_what_the_rewrite_does(name: str) -> None:
    params, arguments = EXAMPLES[name]
    before, after = example(shown()[name], params)
    verify_kernel(before)
    result = shown()[name](before, *arguments)
    verify_kernel(unrolled(result))
    if name == "simplify_kernel":
        assert print_kernel(result) == print_kernel(after)
    assert print_kernel(simplify_kernel(result)) == print_kernel(simplify_kernel(after))


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"pad_extent"}))
def test_the_example_computes_the_same(name: str) -> None:
    params, _ = EXAMPLES[name]
    before, after = example(shown()[name], params)
    assert_equal(before, after, {})


def test_split_says_what_becomes_of_the_rest() -> None:
    kernel = parse_kernel(f"kernel k({FLAT}) {{ for i in 10 {{ y[i] = x[i] }} }}")
    guard = print_kernel(simplify_kernel(nest.split(kernel, "i", 4, "io", "ii", "guard")))
    assert "for io in 3 {" in guard
    assert "if ii + io * 4 < 10 {" in guard
    overlap = print_kernel(simplify_kernel(nest.split(kernel, "i", 4, "io", "ii", "overlap")))
    assert "min(io * 4, 6)" in overlap
    symbolic = parse_kernel(
        "kernel k(in x: float32[N], out y: float32[N]) { for i in N { y[i] = x[i] } }"
    )
    peeled = nest.split(symbolic, "i", 4, "io", "ii")
    assert [s.var for s in walk(peeled.body) if isinstance(s, For)] == ["io", "ii", "i_rest"]


# ---------------------------------------------------------------- what holds for random kernels


def arrays_for(kernel: Kernel, symbols: dict[str, int]) -> dict[str, Any]:
    """Small whole numbers: sums are exact in any order."""
    rng = np.random.default_rng(1)
    found = {}
    for b in kernel.params:
        shape = [e if isinstance(e, int) else e.evaluate(symbols) for e in b.shape]
        values = rng.integers(-4, 5, shape)
        found[b.name] = (
            np.zeros(shape, b.dtype.numpy) if b.role is Role.out else values.astype(b.dtype.numpy)
        )
    return found


def assert_equal(a: Kernel, b: Kernel, symbols: dict[str, int]) -> None:
    """Both kernels, on the same inputs, write the same outputs."""
    first, second = arrays_for(a, symbols), arrays_for(b, symbols)
    run_kernel(a, first, symbols)
    run_kernel(b, second, symbols)
    for buffer in a.params:
        np.testing.assert_array_equal(first[buffer.name], second[buffer.name])


Draw = Callable[[st.SearchStrategy[Any]], Any]
EXTENTS = st.sampled_from(["1", "2", "3", "5", "8", "N"])


@st.composite
def nests(draw: st.DrawFn) -> Kernel:
    """A loop per output dimension, perhaps a guarded reduction inside, and an epilogue."""
    a, b, c = (draw(EXTENTS) for _ in range(3))
    taps = draw(st.sampled_from(["1", "3", "4"]))
    kind = draw(st.sampled_from(["copy", "conv", "product", "transpose"]))
    if kind in ("copy", "transpose"):
        at, shape = (
            ("i, j, o", f"{a}, {b}, {c}") if kind == "copy" else ("o, i, j", f"{c}, {a}, {b}")
        )
        body = f"y[i, j, o] = max(x[{at}], 0.0)"
        params = f"in x: float32[{shape}], out y: float32[{a}, {b}, {c}]"
    elif kind == "product":
        body = f"""alloc acc: float32[] register acc[] = 1.0
          for r in {taps} {{ acc[] = fma(x[i, j, r], w[o, r], acc[]) }} y[i, j, o] = acc[]"""
        params = f"in x: float32[{a}, {b}, {taps}], in w: float32[{c}, {taps}], out y: float32[{a}, {b}, {c}]"
    else:
        body = f"""alloc acc: float32[] register acc[] = 0.0
          for r in {taps} {{ acc[] = acc[] + select(
            (0 <= (i + r - 1)) & ((i + r - 1) < {a}), x[i + r - 1, j, o], 0.0) }}
          y[i, j, o] = acc[] * 2.0"""
        params = f"in x: float32[{a}, {b}, {c}], out y: float32[{a}, {b}, {c}]"
    text = (
        f"kernel k({params}) {{ for i in {a} {{ for j in {b} {{ for o in {c} {{ {body} }} }} }} }}"
    )
    return parse_kernel(text)


def change(draw: Draw, kernel: Kernel, step: int) -> Kernel:
    """One random rewrite; the kernel itself where that one doesn't apply."""
    loops = [s for s in walk(kernel.body) if isinstance(s, For)]
    loop, other = draw(st.sampled_from(loops)), draw(st.sampled_from(loops))
    factor = draw(st.sampled_from([2, 3, 4]))
    output = loop.var[0] in "ijo"
    tails = ["peel", "guard"]
    if (
        output
        and isinstance(loop.extent, Const)
        and int(loop.extent.value) >= factor
        and "acc" not in kernel.buffers()
    ):
        tails.append("overlap")
    choices: dict[str, Callable[[], Kernel]] = {
        "split": lambda: nest.split(
            kernel,
            loop.var,
            factor,
            f"{loop.var}a{step}",
            f"{loop.var}b{step}",
            draw(st.sampled_from(tails)),
        ),
        "reorder": lambda: nest.reorder(kernel, loop.var, other.var),
        "fuse": lambda: nest.fuse(kernel, loop.var, other.var, f"{loop.var}f{step}"),
        "drop": lambda: nest.drop_unit_loops(kernel),
        "simplify": lambda: simplify_kernel(kernel),
        "speculate": lambda: guards.speculate(simplify_kernel(kernel)),
        "relayout": lambda: memory.relayout(kernel, "x", layout(draw, kernel)),
        "border": lambda: guards.use_border(bordered(kernel), "x"),
    }
    if output:
        choices["sink"] = lambda: nest.sink(kernel, loop.var)
    name = draw(st.sampled_from(sorted(choices)))
    try:
        result = choices[name]()
    except IRError:
        return kernel
    note(f"{name} {loop.var} {other.var} {factor}\n{print_kernel(result)}")
    return result


def layout(draw: Draw, kernel: Kernel) -> Layout:
    x = kernel.params[0]
    axes = [Axis(d) for d in draw(st.permutations(range(len(x.shape))))]
    fixed = [d for d, e in enumerate(x.shape) if isinstance(e, int)]
    if fixed and draw(st.booleans()):
        blocked = draw(st.sampled_from(fixed))
        axes = [Axis(a.dim, 4) if a.dim == blocked else a for a in axes] + [Axis(blocked, 1, 4)]
    return Layout(tuple(axes), x.layout.border)


def bordered(kernel: Kernel) -> Kernel:
    """The kernel with a border of two elements around x's first dimension."""
    x = kernel.params[0]
    return memory.relayout(kernel, "x", x.layout.with_border(0, 2, 2))


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(st.data())
def test_rewrites_keep_what_a_kernel_computes(data: st.DataObject) -> None:
    kernel = data.draw(nests())
    note(print_kernel(kernel))
    draw = data.draw
    changed = kernel
    for step in range(data.draw(st.integers(1, 5))):
        if any(isinstance(s, For) for s in walk(changed.body)):
            changed = change(draw, changed, step)
    verify_kernel(unrolled(changed))
    for n in (1, 5):
        assert_equal(kernel, changed, {"N": n})


def test_only_sums_are_carried() -> None:
    kernel = parse_kernel(
        """kernel k(in x: float32[6, 4], out y: float32[4]) { for i in 4 { alloc a: float32[] register  a[] = -9.0
             for m in 6 { for k in 1 { a[] = max(a[], x[m, i]) } }  y[i] = a[] } }"""
    )
    with pytest.raises(IRError, match="expected a sum over 'm'"):
        reduction.carry(kernel, "m")


def test_a_sum_that_begins_with_its_own_output_is_carried() -> None:
    kernel = parse_kernel(
        """kernel k(in x: float32[6, 4], inout y: float32[4]) { for i in 4 { alloc a: float32[] register  a[] = y[i]
             for m in 6 { for k in 1 { a[] = a[] + x[m, i] } }  y[i] = a[] } }"""
    )
    carried = reduction.carry(kernel, "m")
    verify_kernel(carried)
    x = np.arange(24, dtype=np.float32).reshape(6, 4)
    arrays = {"x": x, "y": np.ones(4, np.float32)}
    run_kernel(carried, arrays, {})
    np.testing.assert_array_equal(arrays["y"], 1 + x.sum(0))
