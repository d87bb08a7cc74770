"""Derives the polynomials of convc/loops/math_tables.py: run it to print that module's text.

Each is a weighted minimax fit by the Remez exchange algorithm in 60-digit arithmetic; coefficients are
then rounded to float64 (a float32 kernel rounds them once more, to its constants).
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 60
Real = Callable[[mp.mpf], mp.mpf]


def remez(
    f: Real, weight: Real, low: float, high: float, degree: int
) -> tuple[list[mp.mpf], mp.mpf]:
    """The polynomial p (constant first) with least max |p - f| · weight on [low, high], and that maximum."""
    a, b = mp.mpf(low), mp.mpf(high)
    count = degree + 2
    points = [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * k / (count - 1)) for k in range(count)]
    grid_size = 40 * count
    grid = [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * k / grid_size) for k in range(grid_size + 1)]
    targets, weights = [f(x) for x in grid], [weight(x) for x in grid]
    coefficients: list[mp.mpf] = []
    worst = mp.mpf(0)
    for _ in range(12):
        rows = [
            [x**k for k in range(degree + 1)] + [(-1) ** i / weight(x)]
            for i, x in enumerate(points)
        ]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([f(x) for x in points]))
        coefficients = list(solution)[: degree + 1]
        errors = [
            (mp.polyval(coefficients[::-1], x) - t) * w
            for x, t, w in zip(grid, targets, weights, strict=True)
        ]
        worst = max(abs(e) for e in errors)
        points = extrema(grid, errors, count)
        if worst <= abs(solution[degree + 1]) * mp.mpf("1.01"):
            break
    return coefficients, worst


def extrema(grid: list[mp.mpf], errors: list[mp.mpf], count: int) -> list[mp.mpf]:
    """The places of the largest error in each run of one sign; the best `count` neighbouring ones."""
    runs: list[int] = []
    for i, error in enumerate(errors):
        if runs and (errors[runs[-1]] > 0) == (error > 0):
            if abs(error) > abs(errors[runs[-1]]):
                runs[-1] = i
        else:
            runs.append(i)
    while len(runs) > count:
        runs.pop(0 if abs(errors[runs[0]]) < abs(errors[runs[-1]]) else -1)
    if len(runs) < count:
        raise ArithmeticError(f"the error changes its sign {len(runs)} times, expected {count}")
    return [grid[i] for i in runs]


def series(f: Real, limit: mp.mpf) -> Real:
    """f with its removable singularity at 0 filled in."""
    return lambda x: limit if abs(x) < mp.mpf(10) ** -20 else f(x)


def erfcx(x: mp.mpf) -> mp.mpf:
    return mp.exp(x * x) * mp.erfc(x)


def fits() -> list[tuple[str, str, Real, Real, float, float, dict[str, int]]]:
    """Name, meaning, function, weight, interval, and the degree per precision."""
    half_ln2 = float(mp.log(2) / 2) * 1.0001
    tan8 = float(mp.tan(mp.pi / 8)) ** 2 * 1.0001
    quarter = float(mp.pi / 4) ** 2 * 1.0001
    atanh = series(lambda z: (mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 1) * 2 / z, mp.mpf(2) / 3)
    return [
        ("EXP", "(e^r - 1 - r) / r^2 for |r| <= ln 2 / 2",
         series(lambda r: (mp.expm1(r) - r) / r**2, mp.mpf(1) / 2),
         lambda r: mp.mpf(1) / 12, -half_ln2, half_ln2, {"float32": 4, "float64": 9}),
        ("LOG", "(2 atanh(s) / s - 2) / z in z = s^2, for |s| <= 3 - sqrt 8",
         atanh, lambda z: z + mp.mpf(10) ** -9, 0, 0.02946, {"float32": 3, "float64": 6}),
        ("ERF_SMALL", "erf(x) / x - 1 in z = x^2, for |x| <= 1",
         series(lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1, 2 / mp.sqrt(mp.pi) - 1),
         lambda z: mp.mpf(1), 0, 1, {"float32": 6, "float64": 12}),
        ("ERF_LARGE", "e^(t^2) erfc(t) in u = t - 2.5 (float32: 1 <= t <= 4) or t - 3.5 (1 <= t <= 6)",
         erfcx, lambda t: mp.exp(-t * t), 1, 4, {"float32": 7}),
        ("ERF_LARGE", "", erfcx, lambda t: mp.exp(-t * t), 1, 6, {"float64": 19}),
        ("SIN", "(sin(r) / r - 1) / z in z = r^2, for |r| <= pi / 4",
         series(lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, mp.mpf(-1) / 6),
         lambda z: z + mp.mpf(10) ** -9, 0, quarter, {"float64": 5}),
        ("COS", "(cos(r) - 1 + z / 2) / z^2 in z = r^2, for |r| <= pi / 4",
         series(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, mp.mpf(1) / 24),
         lambda z: z * z + mp.mpf(10) ** -9, 0, quarter, {"float64": 5}),
        ("ATAN", "(atan(t) / t - 1) / z in z = t^2, for |t| <= tan(pi / 8)",
         series(lambda z: (mp.atan(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, mp.mpf(-1) / 3),
         lambda z: z + mp.mpf(10) ** -9, 0, tan8, {"float64": 11}),
    ]  # fmt: skip


def main() -> None:
    print(
        '"""Polynomials of loops/math.py, constant first. Printed by tests/loops/fit_math.py."""\n'
    )
    print("from __future__ import annotations\n")
    for name, meaning, f, weight, low, high, degrees in fits():
        for dtype, degree in degrees.items():
            middle = (mp.mpf(low) + mp.mpf(high)) / 2 if name == "ERF_LARGE" else mp.mpf(0)
            shifted = (lambda x, f=f, m=middle: f(x + m)), (lambda x, w=weight, m=middle: w(x + m))
            coefficients, worst = remez(*shifted, low - middle, high - middle, degree)
            bits = -mp.log(worst, 2)
            if meaning:
                print(f"# {meaning}")
                meaning = ""
            print(f"# {dtype}: error below 2^-{float(bits):.1f}")
            print(f"{name}_{dtype.upper()} = (")
            for c in coefficients:
                print(f"    {float(c)!r},")
            print(")")


if __name__ == "__main__":
    main()
