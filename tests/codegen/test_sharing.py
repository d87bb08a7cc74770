"""How steps are shared among threads: which loop is cut, what a step is worth, and that all of it is done once."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from convc_runtime import Model
from convc_runtime.pool import Pool

from convc import driver, keras
from convc.codegen.sharing import LEAST_NANOSECONDS, Sharing, Work, _Nest, shared_work, sharings
from convc.driver import Compiled
from convc.loops.parser import parse_kernel
from convc.program.ir import Argument, Entry, Program, Region, RegionKind, Step
from convc.schedule.sequences import schedule_sequence
from convc.target import TARGETS
from convc.types import Dim, evaluate

layers = keras.layers


def compiled(*stack: Any, shape: tuple[int, ...]) -> Compiled:
    image = layers.Input(shape)
    x = image
    for layer in stack:
        x = layer(x)
    return driver.compile(keras.Model(image, x, name="net")).compiled


def shared(net: Compiled, operator: str) -> list[Sharing]:
    """The sharing of each step that computes an operator."""
    (entry,) = net.program.entries
    rows = net.rows[entry.name]
    found = zip(rows, sharings(net.program, entry), strict=True)
    return [s for row, s in found if row.operators.startswith(operator)]


def work(net: Compiled) -> list[Work]:
    (entry,) = net.program.entries
    return shared_work(net.program, entry, sharings(net.program, entry))


def jobs(model: Model) -> int:
    """How many steps the model's threads have shared: the pool's fourth field counts them (support.ll)."""
    pool = model._native.parallel()
    assert pool is not None
    return ctypes.c_uint32.from_address(pool.address + 128).value


def at(sharing: Sharing, batch: int) -> tuple[int, int]:
    cut = sharing.single if batch == 1 else sharing.many
    return evaluate(cut.rows, {"N": batch}), evaluate(cut.length, {"N": batch})


def test_a_convolution_of_a_large_image_is_cut_along_its_rows_for_every_block_of_channels() -> None:
    net = compiled(layers.Conv2D(32, 1), layers.Conv2D(512, 1), shape=(40, 40, 32))
    _, wide = shared(net, "conv2d")
    rows, length = at(wide, 1)
    assert rows > 1  # blocks of channels
    assert length > 100  # tiles of pixels


def test_a_convolution_with_more_weights_than_image_is_cut_along_its_channels() -> None:
    net = compiled(layers.Conv2D(64, 1), layers.Conv2D(2048, 1), shape=(4, 4, 512))
    _, wide = shared(net, "conv2d")
    rows, length = at(wide, 1)
    assert rows == 1
    assert length >= 16


def test_winograd_is_cut_along_the_image_from_its_first_transform_to_its_last() -> None:
    net = compiled(
        layers.Conv2D(32, 3, padding="same"),
        layers.Conv2D(32, 3, padding="same"),
        shape=(96, 96, 32),
    )
    products = shared(net, "mat_mul")
    transforms = shared(net, "winograd")
    assert products
    for product in products:
        assert at(product, 1)[0] == 36  # a thread's stretch of tiles at each of 6 x 6 positions
    for transform in transforms:
        rows, length = at(transform, 1)
        assert rows == 1
        assert (
            length > 64
        )  # halves end in the middle of a row of tiles where those of the product do


def test_a_batch_is_cut_by_images() -> None:
    net = compiled(layers.Conv2D(32, 1), layers.Conv2D(512, 1), shape=(40, 40, 32))
    for sharing in shared(net, "conv2d"):
        rows, length = at(sharing, 16)
        assert rows == 1
        assert length % 16 == 0


def test_a_network_of_small_steps_is_worth_no_second_thread() -> None:
    small = compiled(layers.Conv2D(8, 3), layers.MaxPooling2D(), shape=(12, 12, 1))
    large = compiled(layers.Conv2D(64, 3), layers.Conv2D(64, 3), shape=(64, 64, 32))
    assert not [w for w in work(small) if w.least == 1]
    total = sum(w.time.once + w.time.each for w in work(large) if w.least == 1)
    # 0.28 GFLOP: 1 to 3 ms without a second thread.
    assert 20 * LEAST_NANOSECONDS < total < 30_000_000


def test_small_steps_are_shared_where_the_batch_makes_them_large(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Pool, "eager", False)
    net = compiled(layers.Dense(256, activation="relu"), layers.Dense(10), shape=(256,))
    model = net.artifact.model(2)
    x = np.random.default_rng(0).standard_normal((4096, 256)).astype(np.float32)
    for batch, shares in ((1, False), (4096, True), (1, False)):
        before = jobs(model)
        model(x[:batch])
        assert (jobs(model) > before) is shares, batch


def test_a_batch_reads_the_weights_of_a_matrix_once() -> None:
    net = compiled(layers.Dense(1024), layers.Dense(1024), shape=(1024,))
    steps = [s.time for s in shared(net, "mat_mul")]
    assert len(steps) == 2
    for time in steps:
        assert time.once > 1024 * 1024 * 4 * 0.006  # half of what memory takes at 80 GB/s
        assert time.each > 0


def test_work_in_groups_says_when_each_step_is_large_enough() -> None:
    """Steps of different lengths a row, with and without a symbol, in and out of a loop over images."""
    text = """
    kernel {name}(out y: float32[{rows}, 64]) {{
      for n in {rows} parallel {{ for i in {length} {{ y[n, i % 64] = 0.0 }} }}
    }}"""
    lengths = {"large": 100_000, "middle": 30_000, "small": 3_000}
    kernels = {n: parse_kernel(text.format(name=n, rows="N", length=x)) for n, x in lengths.items()}
    kernels["fixed"] = parse_kernel(text.format(name="fixed", rows="2", length=100_000))
    symbol = Dim.symbol("N")
    regions = (
        Region("y", RegionKind.arena, symbol * 256, 0),
        Region("z", RegionKind.arena, 512, symbol * 256),
    )
    steps = [Step(n, (Argument("z" if n == "fixed" else "y", 0),)) for n in kernels]
    steps += [Step(n, (Argument("y", 0),), each="N") for n in ("large", "small")]
    entry = Entry("run", (), (), tuple(steps))
    program = Program("p", regions, kernels, (entry,))
    found = sharings(program, entry)
    times = dict(zip(kernels, (s.time for s in found), strict=False))
    assert times["large"].each > LEAST_NANOSECONDS > times["middle"].each > times["small"].each > 0
    assert times["fixed"].once > LEAST_NANOSECONDS > times["fixed"].each == 0
    groups = {(w.symbols, w.turns, w.least): w.time for w in shared_work(program, entry, found)}
    assert groups == {
        (("N",), "", 1): times["large"],
        (("N",), "", 2): times["middle"],
        (("N",), "", 32): times["small"],
        ((), "", 1): times["fixed"],
        ((), "N", 1): times["large"],
    }


@pytest.mark.parametrize("rows", [16, 160])
def test_a_recurrent_kernel_takes_as_long_for_a_symbolic_batch_as_for_a_known_one(
    rows: int,
) -> None:
    """Its tasks do nothing but the first of each block of rows, and that one either the block or rows one by one."""

    def predicted(extent: str) -> float:
        text = f"""
        kernel k(in x: float32[20, {extent}, 64], in w: float32[64, 64],
                 out y: float32[21, {extent}, 64]) {{
          for n in {extent} {{
            for t in 20 {{
              for j in 64 {{
                alloc s: float32[] register
                s[] = x[t, n, j]
                for c in 64 {{ s[] = fma(y[t, n, c], w[c, j], s[]) }}
                y[t + 1, n, j] = s[]
              }}
            }}
          }}
        }}"""
        kernel = schedule_sequence(parse_kernel(text), TARGETS["x86-64-avx512"])
        assert kernel is not None
        return _Nest(kernel).nanoseconds(dict.fromkeys(kernel.symbols, rows))

    assert predicted("N") == pytest.approx(predicted(str(rows)), rel=0.1)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_number_of_threads_gives_the_same_bits(
    eager: bool, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pool, "eager", eager)
    net = compiled(
        layers.Conv2D(32, 3, padding="same", activation="relu"),
        layers.Conv2D(48, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.Conv2D(160, 1),
        layers.Conv2DTranspose(16, 2, strides=2),
        layers.Flatten(),
        layers.Dense(40),
        shape=(30, 30, 8),
    )
    x = np.random.default_rng(3).standard_normal((batch, 30, 30, 8)).astype(np.float32)
    models: list[Model] = [net.artifact.model(threads) for threads in (1, 2, 3, 7, 16)]
    first, *others = [[model(x).tobytes() for _ in range(3)] for model in models]
    assert len(set(first)) == 1
    assert all(other == first for other in others)
