"""Every expanded function against mpmath or numpy's long double, within the bound stated for it here."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
import pytest
from numpy.typing import NDArray

from convc.loops.interp import run_kernel
from convc.loops.ir import Call, Kernel, Select, walk
from convc.loops.math import EXPANDED, expand_math
from convc.loops.parser import parse_kernel
from convc.loops.printer import print_kernel
from convc.loops.verify import verify_kernel
from convc.loops.walking import expressions, subexpressions
from convc.types import DType
from tests.loops.arrays import run_elementwise

Array = NDArray[Any]

# The largest error in ulps, in float32 and in float64.
BOUNDS = {
    "exp": (1.1, 1.1), "expm1": (2.0, 2.5), "log": (1.0, 1.0), "log1p": (1.5, 1.5),
    "tanh": (2.5, 2.5), "erf": (1.5, 1.5), "rsqrt": (1.5, 1.5), "sin": (0.51, 1.0),
    "cos": (0.51, 1.0), "tan": (0.51, 2.5), "sinh": (0.51, 3.0), "cosh": (0.51, 2.0),
    "asinh": (0.51, 2.0), "acosh": (0.51, 2.0), "atanh": (0.51, 2.0), "asin": (0.51, 3.0),
    "acos": (0.51, 3.0), "atan": (0.51, 2.0),
}  # fmt: skip
RANGES = {
    "exp": {"float32": (-103, 89), "float64": (-744, 710)},
    "expm1": {"float32": (-20, 89), "float64": (-40, 710)},
    "tanh": {"float32": (-10, 10), "float64": (-20, 20)},
    "erf": {"float32": (-4, 4), "float64": (-6, 6)},
    "sinh": {"float32": (-90, 90), "float64": (-711, 711)},
    "cosh": {"float32": (-90, 90), "float64": (-711, 711)},
}
MACHINES = [(True, True), (False, False)]


def kernel_of(function: str, dtype: str) -> Kernel:
    operands = "x[i], z[i]" if function == "pow" else "x[i]"
    return parse_kernel(
        f"kernel k(in x: {dtype}[N], in z: {dtype}[N], out y: {dtype}[N]) "
        f"{{ for i in N {{ y[i] = {function}({operands}) }} }}"
    )


def samples(function: str, dtype: str) -> Array:
    """Dense near 1 and over the function's range, over all exponents, and the special values."""
    rng = np.random.default_rng(1)
    count = 4000 if dtype == "float32" else 1000
    info = np.finfo(dtype)
    least, most = float(info.minexp), float(info.maxexp)
    if function in ("sin", "cos", "tan") and dtype == "float64":
        most = 23.0  # angles beyond 1e7 are another test
    sign = rng.choice([-1.0, 1.0], count)
    parts = [
        rng.uniform(-2, 2, count),
        rng.uniform(-1, 1, count),
        sign * 2.0 ** rng.uniform(least, most - 0.1, count),
        sign * 2.0 ** rng.uniform(-30, 6, count),
    ]
    if function in RANGES:
        parts.append(rng.uniform(*RANGES[function][dtype], 2 * count))
    tiny = float(info.tiny)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, tiny / 8, -tiny / 8, np.pi / 2, np.pi]
    if most > 23:
        special += [float(info.max), float(info.min)]
    return np.concatenate([*parts, np.array(special)]).astype(dtype)


def reference(function: str, x: Array) -> Array:
    """The function in long double, whose 64 bits leave 11 to spare."""
    wide = x.astype(np.longdouble)
    names = {a + b: "arc" + b for a in "a" for b in ("sin", "cos", "tan", "sinh", "cosh", "tanh")}
    with np.errstate(all="ignore"):
        if function == "rsqrt":
            return np.asarray(1 / np.sqrt(wide))
        if function != "erf":
            return np.asarray(getattr(np, names.get(function, function))(wide))
    with mp.workdps(25):
        values = [mp.erf(float(v)) if np.isfinite(v) else np.sign(v) for v in x]
        return np.array([np.longdouble(str(v)) for v in values])


def errors(got: Array, exact: Array) -> NDArray[np.float64]:
    """The distances in ulps of the exact value; infinite where one is NaN or infinite and the other isn't."""
    dtype = got.dtype
    with np.errstate(all="ignore"):
        rounded = exact.astype(dtype)
        ulp = np.spacing(np.abs(rounded)).astype(np.longdouble)
        rounded_is_finite = np.isfinite(rounded)
        top = np.spacing(np.finfo(dtype).max).astype(np.longdouble)
        distance = np.abs(got.astype(np.longdouble) - exact) / np.where(np.isfinite(ulp), ulp, top)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    distance = np.where(same & ~rounded_is_finite, 0, distance)
    return np.where(np.isnan(distance), np.inf, distance).astype(np.float64)


@pytest.mark.parametrize(("fma", "rounding"), MACHINES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("function", list(BOUNDS))
def test_a_function_stays_within_its_bound(
    function: str, dtype: str, fma: bool, rounding: bool
) -> None:
    kernel = expand_math(kernel_of(function, dtype), fma=fma, rounding=rounding)
    x = samples(function, dtype)
    worst = errors(run_elementwise(kernel, {"x": x}), reference(function, x))
    at = int(worst.argmax())
    bound = BOUNDS[function][dtype == "float64"]
    assert worst[at] <= bound, f"{function}({x[at]!r}): {worst[at]:.2f} ulp"


@pytest.mark.parametrize(
    "function", [f for f in BOUNDS if f not in ("exp", "cosh", "cos", "acosh")]
)
def test_odd_functions_keep_the_sign_of_zero(function: str) -> None:
    zeros = np.array([0.0, -0.0], np.float32)
    y = run_elementwise(expand_math(kernel_of(function, "float32")), {"x": zeros})
    if function in ("log", "rsqrt", "acos"):
        assert y[0] != 0
    else:
        np.testing.assert_array_equal(np.signbit(y), [False, True])


@pytest.mark.parametrize(("fma", "rounding"), MACHINES)
@pytest.mark.parametrize(("dtype", "bound"), [("float32", 0.51), ("float64", 4.0)])
def test_powers(dtype: str, bound: float, fma: bool, rounding: bool) -> None:
    rng = np.random.default_rng(3)
    count, most = 2000, 126 if dtype == "float32" else 1000
    x = [
        2.0 ** rng.uniform(-5, 5, count),
        2.0 ** rng.uniform(-most, most, count),
        -rng.integers(1, 20, count),
    ]
    z = [rng.uniform(-20, 20, count), rng.uniform(-4, 4, count), rng.integers(-9, 9, count)]
    base, power = np.concatenate(x).astype(dtype), np.concatenate(z).astype(dtype)
    kernel = expand_math(kernel_of("pow", dtype), fma=fma, rounding=rounding)
    with np.errstate(all="ignore"):
        exact = np.power(base.astype(np.longdouble), power.astype(np.longdouble))
    got = run_elementwise(kernel, {"x": base, "z": power})
    assert errors(got, np.asarray(exact)).max() <= bound


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_special_powers(dtype: str) -> None:
    special = np.array([0.0, -0.0, 1, -1, 0.5, 2, -2, -3, np.inf, -np.inf, np.nan, 1e30], dtype)
    x, z = (a.ravel() for a in np.meshgrid(special, special))
    got = run_elementwise(expand_math(kernel_of("pow", dtype)), {"x": x, "z": z})
    with np.errstate(all="ignore"):
        expected = np.power(x, z)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(expected) & ~np.isnan(expected))


def test_angles_beyond_the_reach_of_float64_are_nan_rather_than_wrong() -> None:
    y = run_elementwise(
        expand_math(kernel_of("sin", "float64")), {"x": np.array([1e7, 1.1e7, 1e300])}
    )
    np.testing.assert_array_equal(np.isnan(y), [False, True, True])


@pytest.mark.parametrize("function", ["floor", "ceil", "trunc", "round"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_roundings_without_the_instruction(function: str, dtype: str) -> None:
    x = np.array(
        [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.49999997, 8388609.0, -3e9, np.inf, np.nan], dtype
    )
    kernel = kernel_of(function, dtype)
    assert expand_math(kernel) == kernel
    y = run_elementwise(expand_math(kernel, rounding=False), {"x": x})
    expected = {"round": np.rint}.get(function) or getattr(np, function)
    np.testing.assert_array_equal(y, expected(x))
    finite = ~np.isnan(x)
    np.testing.assert_array_equal(np.signbit(y)[finite], np.signbit(expected(x))[finite])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("function", ["exp", "tanh", "erf", "sin", "rsqrt"])
def test_narrow_floats_are_rounded_from_float32(function: str, dtype: str) -> None:
    x = np.random.default_rng(4).uniform(0.1, 4, 500).astype(DType(dtype).numpy)
    y = run_elementwise(expand_math(kernel_of(function, dtype)), {"x": x})
    assert y.dtype == x.dtype
    exact = reference(function, x.astype(np.float64)).astype(np.float64)
    np.testing.assert_allclose(
        y.astype(np.float64), exact, rtol=2.0**-8 if dtype == "bfloat16" else 2.0**-10
    )


@pytest.mark.parametrize("function", sorted(EXPANDED))
def test_nothing_is_left_and_the_result_is_a_good_kernel(function: str) -> None:
    text = print_kernel(kernel_of("exp", "float32")).replace("exp(x[i])", f"{function}(x[i])")
    if function == "pow":
        text = text.replace("pow(x[i])", "pow(x[i], z[i])")
    if function in ("isnan", "isinf"):
        text = text.replace(f"{function}(x[i])", f"select({function}(x[i]), 1.0, 0.0)")
    for fma, rounding in MACHINES:
        kernel = expand_math(parse_kernel(text), fma=fma, rounding=rounding)
        verify_kernel(kernel)
        assert parse_kernel(print_kernel(kernel)) == kernel
        left = {
            e.function
            for s in walk(kernel.body)
            for whole in expressions(s)
            for e in subexpressions(whole)
            if isinstance(e, Call)
        }
        assert not left & EXPANDED
        assert fma or "fma" not in left
        assert rounding or "round" not in left


def test_a_guarded_load_stays_under_its_guard() -> None:
    text = (
        "kernel k(in x: float32[N], out y: float32[N]) { for i in N {"
        " y[i] = select(0 < i, select(i < 3, exp(x[i - 1]), 7.0), log(x[i])) } }"
    )
    kernel = expand_math(parse_kernel(text))
    loads = [s for s in walk(kernel.body) for e in expressions(s) if isinstance(e, Select)]
    assert len(loads) >= 2
    x, y = np.array([1, 2, 3, 4], np.float32), np.zeros(4, np.float32)
    run_kernel(kernel, {"x": x, "y": y}, {"N": 4})
    np.testing.assert_allclose(y, [0, np.exp(1.0), np.exp(2.0), 7], rtol=1e-6)


def test_a_repeated_call_is_computed_once() -> None:
    text = "kernel k(in x: float32[N], out y: float32[N]) { for i in N { y[i] = E / (E + 1.0) } }"
    once = expand_math(kernel_of("exp", "float32"))
    twice = expand_math(parse_kernel(text.replace("E", "exp(x[i])")))
    assert sum(1 for _ in walk(twice.body)) == sum(1 for _ in walk(once.body))


def test_names_do_not_clash_with_those_of_an_earlier_expansion() -> None:
    first = print_kernel(expand_math(kernel_of("exp", "float32")))
    again = expand_math(parse_kernel(first.replace("y[i] = ", "y[i] = log(x[i]) * ")))
    verify_kernel(again)


def test_the_interpreter_agrees_with_the_arrays() -> None:
    kernel = expand_math(kernel_of("tanh", "float32"))
    x = np.random.default_rng(5).standard_normal(20).astype(np.float32)
    y = np.zeros(20, np.float32)
    run_kernel(kernel, {"x": x, "z": x, "y": y}, {"N": 20})
    np.testing.assert_array_equal(y, run_elementwise(kernel, {"x": x}))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scaling_by_one_instruction_gives_the_bits_of_two_factors(dtype: str) -> None:
    x = samples("exp", dtype)
    plain, scaled = (
        run_elementwise(expand_math(kernel_of("exp", dtype), scaling=scaling), {"x": x})
        for scaling in (False, True)
    )
    np.testing.assert_array_equal(scaled, plain)
