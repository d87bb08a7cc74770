"""How steps are shared among threads: which loop is cut, what a step is worth, and that all of it is done once."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
import pytest
from convc_runtime import Model
from convc_runtime.pool import Pool

from convc import driver, keras
from convc.codegen.work import Work, shared_work
from convc.driver import Compiled
from convc.errors import IRError
from convc.loops.parser import parse_kernel
from convc.plan.nest import Nest
from convc.plan.sharing import LEAST_NANOSECONDS, share_steps
from convc.program.ir import Argument, Entry, Program, Region, RegionKind, Share, Step
from convc.program.parser import parse_program
from convc.program.printer import print_share
from convc.program.verify import verify_program
from convc.schedule.sequences import schedule_sequence
from convc.target import TARGETS
from convc.types import Dim, Extent, evaluate

layers = keras.layers


def compiled(*stack: Any, shape: tuple[int, ...]) -> Compiled:
    image = layers.Input(shape)
    x = image
    for layer in stack:
        x = layer(x)
    return driver.compile(keras.Model(image, x, name="net")).compiled


def shared(net: Compiled, operator: str) -> list[Share]:
    """The share of each step that computes an operator."""
    (entry,) = net.program.entries
    found = zip(net.rows[entry.name], entry.steps, strict=True)
    return [s.share for row, s in found if row.operators.startswith(operator) and s.share]


def work(net: Compiled) -> list[Work]:
    (entry,) = net.program.entries
    return shared_work(entry)


def line(time: Extent) -> tuple[int, int]:
    """A predicted time's nanoseconds whatever the symbols are, and those for each of their product."""
    if isinstance(time, int):
        return time, 0
    once = evaluate(time, dict.fromkeys(time.symbols, 0))
    return once, evaluate(time, dict.fromkeys(time.symbols, 1)) - once


def jobs(model: Model) -> int:
    """How many steps the model's threads have shared: the pool's fourth field counts them (support.ll)."""
    pool = model._native.parallel()
    assert pool is not None
    return ctypes.c_uint32.from_address(pool.address + 128).value


def at(share: Share, batch: int) -> tuple[int, int]:
    cut = share.single or share.cut if batch == 1 else share.cut
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
        layers.Conv2D(64, 3, padding="same"),
        layers.Conv2D(128, 3, padding="same"),
        shape=(96, 96, 32),
    )
    *products, wide = shared(net, "mat_mul")
    transforms = shared(net, "winograd")
    assert products
    for product in products:
        rows, length = at(product, 1)
        assert rows == 1  # a thread's tiles, each with its 6 x 6 positions
        assert length % 36 == 0
    assert at(wide, 1)[0] > 36  # weights that don't stay: a stretch of tiles at each position
    for transform in transforms:
        rows, length = at(transform, 1)
        assert rows == 1
        assert (
            length > 64
        )  # halves end in the middle of a row of tiles where those of the product do


def test_a_batch_is_cut_by_images() -> None:
    net = compiled(layers.Conv2D(32, 1), layers.Conv2D(256, 1), shape=(12, 12, 32))
    for sharing in shared(net, "conv2d"):
        rows, length = at(sharing, 16)
        assert rows == 1
        assert length % 16 == 0


def test_a_network_of_small_steps_is_worth_no_second_thread() -> None:
    small = compiled(layers.Conv2D(8, 3), layers.MaxPooling2D(), shape=(12, 12, 1))
    large = compiled(layers.Conv2D(64, 3), layers.Conv2D(64, 3), shape=(64, 64, 32))
    assert not [w for w in work(small) if w.least == 1]
    total = sum(sum(line(w.time)) for w in work(large) if w.least == 1)
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
    steps = shared(net, "mat_mul")
    assert len(steps) == 2
    for share in steps:
        once, each = line(share.time)
        assert once > 1024 * 1024 * 4 * 0.006  # half of what memory takes at 80 GB/s
        assert each > 0


def test_work_in_groups_says_when_each_step_is_large_enough() -> None:
    """Steps of different lengths a row, with and without a symbol, in and out of a loop over images."""
    text = """
    kernel {name}(out y: float32[{rows}, 64]) {{
      for n in {rows} parallel {{ for h in 2 parallel {{
        for i in {length} // 2 {{ y[n, i % 64] = 0.0 }} }} }}
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
    (entry,) = share_steps(program).entries
    shares = [step.share for step in entry.steps if step.share]
    times = dict(zip(kernels, (s.time for s in shares), strict=False))
    each = {name: line(time)[1] for name, time in times.items()}
    assert each["large"] > LEAST_NANOSECONDS > each["middle"] > each["small"] > 0
    assert each["fixed"] == 0
    assert times["fixed"] == line(times["fixed"])[0] > LEAST_NANOSECONDS
    leasts = [share.least for share in shares]
    assert leasts[0] == leasts[3] == leasts[4] == 1
    assert leasts[5] is None  # one image's worth, in every turn
    groups = {(w.product, w.turns, w.least): w.time for w in shared_work(entry)}
    assert groups == {
        (symbol, "", 1): times["large"],
        (symbol, "", 2): times["middle"],
        (symbol, "", 32): times["small"],
        (1, "", 1): times["fixed"],
        (1, "N", 1): sum(line(times["large"])),
    }


def decided(text: str) -> list[str]:
    """The shares of a program's steps, as they are printed."""
    (entry,) = share_steps(parse_program(text)).entries
    return [print_share(step.share) for step in entry.steps if step.share]


KERNEL = """
kernel {name}(in x: float32[{rows}, {length}], out y: float32[{rows}, {length}]) {{
  for n in {rows} parallel {{ for i in {length} parallel {{
    for t in {turns} {{ y[n, i] = fma(x[n, i], 2.0, y[n, i]) }} }} }} }}"""


def program(*steps: str, kernels: str, size: str) -> str:
    return f"""program p {{
      input "x": {size} bytes
      output "y": {size} bytes
      entry run(x: float32[N] in "x") -> (y: float32[N] in "y") {{ {" ".join(steps)} }} }}
      {kernels}"""


def test_the_program_says_which_steps_are_shared_and_why() -> None:
    """One task, little work, much work, and work that a batch makes much of: all in the program's own text."""
    kernels = {
        "one": KERNEL.format(name="one", rows=1, length=1, turns=90_000),
        "little": KERNEL.format(name="little", rows=4, length=8, turns=100),
        "much": KERNEL.format(name="much", rows=4, length=8, turns=10_000),
        "each": KERNEL.format(name="each", rows="N", length=8, turns=1000),
    }
    text = program(
        *(f'{name}("x", "y")' for name in kernels),
        'each N { each("x", "y") }',
        kernels="".join(kernels.values()),
        size="32*N",
    )
    one, little, much, each, turn = decided(text)
    assert one.startswith("alone 1 x 1, ")
    assert little.startswith("alone 1 x 32, ")
    assert much.startswith("share 1 x 32, ")
    assert re.fullmatch(r"share N x 8 or 1 x 8\*N if N >= 4, 1\d{3}\*N ns", each)
    assert re.fullmatch(r"alone 1 x 8, 1\d{3} ns", turn)


def test_a_step_is_cut_where_its_writer_was() -> None:
    """A kernel that is free to be cut by rows or by columns follows the one whose result it reads."""
    loops = """
    kernel {name}({roles}) {{
      for {outer} in 64 parallel {{ for {inner} in 64 parallel {{
        for t in 9000 {{ y[a, b] = fma(x[a, b], 2.0, y[a, b]) }} }} }} }}"""
    roles = "in x: float32[64, 64], out y: float32[64, 64]"
    rows = loops.format(name="rows", roles=roles, outer="a", inner="b")
    columns = loops.format(name="columns", roles=roles, outer="b", inner="a")
    shares = {}
    for name in ("rows", "columns"):
        steps = ['rows("x", "t")', f'{name}("t", "y")']
        text = program(*steps, kernels=rows + columns, size="16384")
        text = text.replace("entry run", 'arena "t": 16384 bytes\n entry run').replace(
            "[N]", "[4096]"
        )
        shares[name] = [share.partition(",")[0] for share in decided(text)]
    assert shares["rows"] == ["share 1 x 4096", "share 1 x 4096"]
    assert shares["columns"] == ["share 1 x 4096", "share 64 x 64"]


def test_a_share_of_other_tasks_is_refused() -> None:
    text = program(
        'much("x", "y") share 4 x 7, 10000 ns',
        kernels=KERNEL.format(name="much", rows=4, length=8, turns=10),
        size="128",
    ).replace("[N]", "[32]")
    with pytest.raises(IRError, match="much has 32 tasks"):
        verify_program(parse_program(text))


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
        return Nest(kernel).nanoseconds(dict.fromkeys(kernel.symbols, rows))

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
