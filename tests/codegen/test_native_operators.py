"""Every operator as machine code: near the float64 reference, and to the last bit what the loop interpreter says."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from convc.codegen.link import link
from convc.codegen.support import support_object
from convc.graph.interp import run_graph
from convc.graph.ir import Builder, Graph
from convc.ops.elementwise import Cast
from convc.target import TARGETS
from convc.types import DType, TensorType, symbols_of
from tests.codegen.native import (
    RUNNABLE,
    Native,
    assert_same_bits,
    call,
    object_of,
    program_of,
)
from tests.ops.cases import CASES, FAMILIES
from tests.ops.cases.case import Case, N

CHECKED = [n for n in ("x86-64-avx512-vnni-bf16", "x86-64-avx2", "x86-64-v2") if n in RUNNABLE]
FAMILY_OF = {case.name: name for name, rows in FAMILIES.items() for case in rows}

# The largest error that is allowed, relative to the largest reference value.
TOLERANCES = {DType.float64: 1e-13, DType.float32: 4e-6, DType.float16: 4e-3, DType.bfloat16: 3e-2}


def entry_of(case: Case, constant: bool) -> str:
    return re.sub(r"\W", "_", case.name) + ("_constant" if constant else "")


def is_symbolic(case: Case) -> bool:
    return any(symbols_of(t.shape) for t in case.types)


def constants_of(case: Case) -> list[int]:
    """The inputs that a model would have as weights: those behind the first of a fixed shape."""
    return [k for k, t in enumerate(case.types) if k and not symbols_of(t.shape)]


def graph_of(case: Case, constant: bool) -> Graph:
    """The case's operator on inputs x0, x1, …; some of them as weights if `constant`."""
    builder = Builder(entry_of(case, constant))
    arrays, names = case.arrays(), []
    for k, type in enumerate(case.types):
        if constant and k in constants_of(case):
            names.append(builder.weight(f"x{k}", arrays[k]))
        else:
            names.append(builder.input(f"x{k}", type))
    return builder.finish(builder.add_all(case.op, *names, name="y"))


def graphs_of(family: str, symbolic: bool) -> dict[str, Graph]:
    """The graphs of a family by entry, those with a symbolic batch apart: a model binds its symbols in every call."""
    rows = [c for c in FAMILIES[family] if is_symbolic(c) is symbolic]
    graphs = {entry_of(c, False): graph_of(c, False) for c in rows}
    return graphs | {entry_of(c, True): graph_of(c, True) for c in rows if constants_of(c)}


@functools.cache
def native_of(family: str, symbolic: bool, target: str) -> Native:
    return Native.of(graphs_of(family, symbolic), target)


def inputs_of(case: Case, constant: bool) -> dict[str, Any]:
    hidden = constants_of(case) if constant else []
    return {f"x{k}": a for k, a in enumerate(case.arrays()) if k not in hidden}


def oracle(case: Case) -> list[Any]:
    """The reference in float64; conversions are what they are."""
    graph = case.graph()
    inputs = dict(zip(graph.inputs, case.arrays(), strict=True))
    wide = None if FAMILY_OF[case.name] == "casts" else DType.float64
    return list(run_graph(graph, inputs, wide).values())


def assert_near(actual: Any, expected: Any, inputs: Iterable[Any] = ()) -> None:
    """Equal to the rounding of the result's dtype, or of a coarser one that an input has."""
    dtype = DType.of(actual.dtype)
    if not dtype.is_float:
        np.testing.assert_array_equal(actual, expected)
        return
    given = {DType.of(a.dtype) for a in inputs}
    dtype = max((dtype, *(given & TOLERANCES.keys())), key=TOLERANCES.__getitem__)
    a, b = actual.astype(np.float64), np.asarray(expected).astype(np.float64)
    largest = np.abs(b[np.isfinite(b)]).max(initial=1e-6)
    np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCES[dtype] * largest)


@pytest.mark.parametrize("target", CHECKED)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_native_code_is_near_the_reference_and_gives_the_interpreters_bits(
    case: Case, target: str
) -> None:
    native = native_of(FAMILY_OF[case.name], is_symbolic(case), target)
    model = native.model()
    for constant in (False, True) if constants_of(case) else (False,):
        entry, inputs = entry_of(case, constant), inputs_of(case, constant)
        actual = call(model, entry, inputs)
        symbols = {s: case.symbols[s] for s in native.program.symbols}
        for a, exact, b in zip(
            actual, native.interpret(entry, inputs, symbols), oracle(case), strict=True
        ):
            assert_near(a, b, case.arrays())
            assert_same_bits(a, exact)


@pytest.mark.parametrize("case", [c for c in CASES if is_symbolic(c)], ids=lambda c: c.name)
def test_any_number_of_threads_gives_the_same_bits(case: Case) -> None:
    large = replace(case, symbols={"N": 97})
    constant = bool(constants_of(case)) and not any(
        "N" in map(str, t.shape) for t in case.types[1:]
    )
    entry = entry_of(case, constant)
    hidden = constants_of(case) if constant else []
    inputs = {f"x{k}": a for k, a in enumerate(large.arrays()) if k not in hidden}
    expected = call(models_of(FAMILY_OF[case.name])[0], entry, inputs)
    for model in models_of(FAMILY_OF[case.name])[1:]:
        for a, b in zip(call(model, entry, inputs), expected, strict=True):
            assert_same_bits(a, b)


@functools.cache
def models_of(family: str) -> list[Any]:
    """The family's model for 1, 2, 3 and 7 threads."""
    native = native_of(family, True, CHECKED[0])
    return [native.model(threads) for threads in (1, 2, 3, 7)]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", ["aarch64-neon", "x86-64-avx512"])
def test_code_for_other_machines_calls_nothing_outside_of_itself(family: str, target: str) -> None:
    machine = TARGETS[target]
    graphs = graphs_of(family, True) | graphs_of(family, False)
    image = link([object_of(program_of(graphs, machine), machine), support_of(target)])
    assert all(f"m_entry_{entry}" in image.symbols for entry in graphs)


@functools.cache
def support_of(target: str) -> bytes:
    return support_object(TARGETS[target], "m")


# ---------------------------------------------------------------- conversions

SPECIAL = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 127.5, 128.0, -128.9, 255.5, 256.0, 65504.0, 65519.999, 65520.0,
           65536.0, 1e-8, 6e-8, 2.0**-24, 2.0**-25, 3 * 2.0**-25, 2.0**-14, 2.0**-14 * (1 - 2.0**-11), 1e-40, 3.4e38,
           1e39, -1e39, 2.0**31, -(2.0**31), 2.0**32, 2.0**63, -(2.0**63), 2.0**64, 1e300, np.inf, -np.inf, np.nan,
           1 + 2.0**-8, 1 + 2.0**-8 + 2.0**-30, 1 + 2.0**-11, 1 + 2.0**-11 + 2.0**-40, 1 + 3 * 2.0**-8 - 2.0**-40,
           -(1 + 2.0**-11 + 2.0**-40), 16777217.0, 33554433.0, 9007199254740993.0]  # fmt: skip


def special_values(dtype: DType) -> Any:
    """Values where conversions go wrong: ties, the ends of the formats, denormals, infinities."""
    rng = np.random.default_rng(3)
    if dtype is DType.bool:
        return np.arange(101) % 3 == 0
    if dtype.is_float:
        random = rng.standard_normal(200) * 2.0 ** rng.integers(-30, 30, 200)
        with np.errstate(all="ignore"):
            return np.concatenate([SPECIAL, random]).astype(dtype.numpy)
    info = np.iinfo(dtype.numpy)
    edges = [info.min, info.min + 1, info.max, info.max - 1, 0, 1]
    shifted = [1 << b for b in range(8 * dtype.itemsize - 1)]
    sums = [(1 << b) + (1 << max(0, b - 8)) + 1 for b in range(8 * dtype.itemsize - 1)]
    random = rng.integers(info.min, info.max, 100, dtype=dtype.numpy, endpoint=True)
    return np.concatenate([np.array([*edges, *shifted, *sums], dtype.numpy), random])


@functools.cache
def conversions(target: str) -> Native:
    graphs = {}
    for source in DType:
        for wanted in DType:
            builder = Builder("g")
            x = builder.input("x", vector_of(source))
            graphs[f"{source.value}_{wanted.value}"] = builder.finish(
                [builder.add(Cast(wanted), x)]
            )
    return Native.of(graphs, target)


def vector_of(dtype: DType) -> TensorType:
    return TensorType(dtype, (N,))


@pytest.mark.parametrize("target", CHECKED)
@pytest.mark.parametrize("source", list(DType), ids=lambda d: d.value)
def test_conversions_of_special_values(source: DType, target: str) -> None:
    native = conversions(target)
    x = special_values(source)
    for wanted in DType:
        entry = f"{source.value}_{wanted.value}"
        (actual,) = call(native.model(), entry, {"x": x})
        (exact,) = native.interpret(entry, {"x": x}, {"N": len(x)})
        assert_same_bits(actual, exact)
        if source.is_float and wanted.is_float:
            with np.errstate(all="ignore"):
                near = x.astype(np.float64).astype(wanted.numpy)
            if wanted is not DType.bfloat16 or source is not DType.float64:
                assert_same_bits(actual, near)
