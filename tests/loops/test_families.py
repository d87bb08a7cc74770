"""Kernels that differ in sizes only are one family, and its kernel at a member's sizes is that member."""

from __future__ import annotations

from dataclasses import replace

import pytest

from convc import driver, keras
from convc.keras import layers, losses
from convc.keras.training.model import training_of
from convc.keras.training.rules import Adam
from convc.keras.training.scoring import Scoring
from convc.loops.families import Family, family_of
from convc.loops.ir import Const, Expr, Kernel, index
from convc.loops.parser import parse_kernel
from convc.loops.walking import map_block, substitute
from convc.target import TARGETS
from convc.types import Dim, DType, TensorType, evaluate

SUM = """
kernel {name}(in x: float32[N, {c}, {h}, {h}] @(d0, d2, d3, d1), in s: float32[], out y: float32[{c}]) {{
  for ob in {blocks} parallel {{
    alloc acc: float32[16] register
    for ol in 16 vectorized {{ acc[ol] = 0.0 }}
    for n in N {{
      for i in {h} {{
        for j in {h} {{
          for ol in 16 vectorized {{ acc[ol] = acc[ol] + x[n, ob * 16 + ol, i, j] }}
        }}
      }}
    }}
    for ol in 16 vectorized {{ y[ob * 16 + ol] = acc[ol] * s[] }}
  }}
}}
"""


def sum_kernel(c: int, h: int) -> Kernel:
    return parse_kernel(SUM.format(name=f"sum_{c}_{h}", c=c, h=h, blocks=c // 16))


def member(family: Family) -> Kernel:
    """The family's kernel at its sizes."""
    values: dict[str, Expr] = {name: index(size) for name, size in family.sizes.items()}
    known = dict(family.sizes) | {"N": -1}
    params = tuple(
        replace(b, shape=tuple(e if str(e) == "N" else evaluate(e, known) for e in b.shape))
        for b in family.kernel.params
    )
    body = map_block(family.kernel.body, lambda e: substitute(e, values))
    return replace(family.kernel, params=params, body=body)


def alone(kernel: Kernel) -> bool:
    family = family_of(kernel)
    return family.kernel is kernel and not family.sizes


def test_kernels_of_other_sizes_are_one_family() -> None:
    kernels = [sum_kernel(32, 112), sum_kernel(96, 56), sum_kernel(1280, 7)]
    families = [family_of(k) for k in kernels]
    assert len({f.text for f in families}) == len({f.name for f in families}) == 1
    assert [f.sizes for f in families] == [
        {"size0": 32, "size1": 112},
        {"size0": 96, "size1": 56},
        {"size0": 1280, "size1": 7},
    ]
    assert families[0].kernel.symbols == ("N", "size0", "size1")
    assert families[0].arguments == ("N", 32, 112)


def test_another_computation_is_another_family() -> None:
    doubled = parse_kernel(
        SUM.replace("acc[ol] * s", "acc[ol] + s").format(name="m", c=32, h=4, blocks=2)
    )
    assert family_of(doubled).name != family_of(sum_kernel(32, 4)).name


def test_symbols_for_sizes_are_none_of_the_models() -> None:
    named = SUM.replace("for n in N", "for n in size1").replace("[N,", "[size1,")
    family = family_of(parse_kernel(named.format(name="m", c=32, h=7, blocks=2)))
    assert family.kernel.symbols == ("size1", "size_0", "size_1")
    assert family.arguments == ("size1", 32, 7)


def test_a_family_at_its_sizes_is_the_kernel() -> None:
    for c, h in ((32, 112), (32, 32), (64, 4), (16, 2)):
        kernel = sum_kernel(c, h)
        family = family_of(kernel)
        assert member(family) == replace(kernel, name=family.name)


def test_all_kernels_of_a_training_step_are_their_families_members() -> None:
    image = keras.Input((9, 7, 3), name="image")
    x = layers.BatchNormalization()(layers.Conv2D(16, 3)(image))
    x = layers.MaxPooling2D()(layers.ReLU()(x))
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(2, strides=2)(x))
    model = keras.Model(image, layers.Dense(5, name="scores")(layers.Flatten()(x)))
    labels = TensorType(DType.int64, (Dim.symbol("N"),))
    scoring = Scoring("scores", labels, None, losses.SparseCategoricalCrossentropy(), 1.0, [], ())
    graphs = {"step": training_of(model, [scoring], Adam()).graphs["train_step"]}
    options = driver.Options("training", in_place=True)
    program = driver.plan_graphs("m", graphs, TARGETS["x86-64-avx2"], options).program
    families = [(kernel, family_of(kernel)) for kernel in program.kernels.values()]
    shared = [(kernel, family) for kernel, family in families if family.sizes]
    assert shared
    for kernel, family in shared:
        assert member(family) == replace(kernel, name=family.name)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("for i in 64 { for v in 8 vectorized { y[i*8 + v] = x[(i*8 + v) // 4, 0] } }", "division"),
        (
            "alloc t: float32[4, 8] register for r in 4 unrolled { for v in 8 vectorized "
            "{ t[r, v] = x[r, v] } } for r in 4 unrolled { for v in 8 vectorized { y[r*8 + v] = t[r, v] } }",
            "a tile in registers",
        ),
    ],
)
def test_sizes_stay_numbers_where_they_matter(text: str, why: str) -> None:
    assert alone(
        parse_kernel(f"kernel k(in x: float32[512, 512], out y: float32[512]) {{ {text} }}")
    ), why


def test_the_distance_between_lanes_stays_a_number() -> None:
    kernel = parse_kernel(
        "kernel k(in x: float32[32, 48], out y: float32[32]) "
        "{ for i in 4 { for v in 8 vectorized { y[i*8 + v] = x[i*8 + v, 5] } } }"
    )
    family = family_of(kernel)
    assert family.sizes == {"size0": 32}
    assert family.kernel.params[0].shape[1] == 48
    (loop,) = family.kernel.body
    assert not isinstance(loop.extent, Const)  # type: ignore[union-attr]
