"""Sums of products over an extent of unknown size, here images, and more: a convolution's weight gradient is one.

Neither patches nor transposes are made. A register tile of taps x input channels x vectors of output channels is summed
over an image's pixels at a time, and held in the output between images: what one tile reads of an image, the next ones
find in the cache. Where both factors move with the vectors (a depthwise convolution), the tile is taps x one vector of
channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from convc.loops.ir import Expr, For, Kernel, Load, Space
from convc.loops.rewrites import carry, fuse, parallelize, sink, split, unroll, vectorize
from convc.loops.simplify import simplify_kernel
from convc.schedule.batched import BATCH, batch_loop, pairs_together
from convc.schedule.finishing import finish, has_loop, parallel_top
from convc.schedule.structure import Loop, Structure, depends_on, loads_of
from convc.target import Target

# Vectors of fewer lanes don't pay.
_LEAST_LANES = 4

# Input channels to read side by side, if there are as many.
_TOGETHER = 4

# A task's sums over fewer pixels than this don't pay for loading and storing them.
_LEAST_PIXELS = 256

# Of an image whose pixels take more bytes than a second-level cache has, each pass would read all from
# further away: a strip of its rows is then summed up at a time.
_STAYING_BYTES = 1536 << 10
_STRIP_BYTES = 128 << 10

# Tasks to have before taps become tasks too: each task reads all images again.
_FEW_TASKS = 4

# Input channels that a task goes through at the least: a cache line's worth.
_LEAST_CHANNELS = 16


def accumulated(
    structure: Structure, vector: Loop, still: Expr, moving: Load, target: Target
) -> Kernel | None:
    """The kernel with sums over several images at a time; None if it is no sum over all images of two factors.

    `still` is the factor that moves with the taps, `moving` the one that does not.

    That is: the outermost reduction is over a symbolic extent, further ones move both factors, and the output is the
    sum itself, of constant extents only.
    """
    plan = _plan(structure, vector, still, moving, target)
    if plan is None:
        return None
    batch = batch_loop(structure, vector, still, moving)
    if batch is not None and plan.outer == (batch.var,) and plan.channel:
        load = loads_of(still)[0]
        apart = structure.step(load.buffer, load.index, batch.var)
        chunk = pairs_together(batch, (apart or 1) * load.dtype.itemsize)
        return _apply_in_batches(structure, vector, plan, chunk, target)
    return _apply(structure, vector, plan, target)


@dataclass(frozen=True)
class _Plan:
    """`rows` are output loops that are unrolled whole, `channel` one that is split by `channels` first."""

    rows: tuple[str, ...]
    channel: str
    channels: int
    block: int  # of `channel`, that a task goes through
    outer: tuple[str, ...]  # the other output loops
    images: str
    group: int  # images that are summed up at a time
    row: str  # the reduction over an image's rows
    strip: int  # of these rows, that are summed up at a time; 0 for whole images
    vectors: int
    lanes: int

    @property
    def tile(self) -> str:
        return f"{'x'.join((*self.rows, str(self.channels)))}x{self.vectors}x{self.lanes}"


def _plan(
    structure: Structure, vector: Loop, still: Expr, moving: Load, target: Target
) -> _Plan | None:
    if len(structure.reductions) < 3 or structure.reductions[0].extent is not None:
        return None
    if not isinstance(structure.store.value, Load):
        return None  # the output can't hold parts of what something is made of
    images, *pixels = structure.reductions
    extents = {x.var: x.extent for x in (*structure.outputs, *pixels)}
    loads = loads_of(still)
    if None in extents.values() or len(loads) != 1 or vector.grouped:
        return None
    if any(structure.buffers[x.buffer].space is Space.constant for x in (loads[0], moving)):
        return None
    if not all(
        any(depends_on(i, x.var) for i in load.index)
        for x in structure.reductions
        for load in (loads[0], moving)
    ):
        return None
    dtype = structure.updates[0].value.dtype
    if dtype is not structure.buffers[structure.store.buffer].dtype:
        return None
    extent = vector.extent or 1
    lanes = min(vector.lanes(target.lanes(dtype.itemsize)), extent & -extent)
    if lanes < _LEAST_LANES:
        return None
    vectors = 2 if extent % (2 * lanes) == 0 else 1
    room = (target.vector_registers - vectors - 1) // vectors
    at = {x.var: structure.step(loads[0].buffer, loads[0].index, x.var) for x in structure.outputs}
    others = [x.var for x in structure.outputs if x.var != vector.var]
    channel = next((v for v in others if at[v] == 1 and (extents[v] or 1) > 1), "")
    rows: list[str] = []
    size = 1
    together = min(_TOGETHER, extents[channel] or 1) if channel else 1
    # Taps that share what they read with the next pixel's come first: the nearest ones.
    for var in sorted(others, key=lambda v: at[v] or 1 << 60):
        extent = extents[var] or 1
        if var != channel and at[var] and extent > 1 and size * extent * together <= room:
            rows.append(var)
            size *= extent
    channels = _divisor(extents[channel] or 1, room // size) if channel else 1
    count = 1
    for x in pixels:
        count *= x.extent or 1
    outer = tuple(v for v in others if v not in rows and v != channel)
    block = _block(extents[channel] or 1, channels, vector, vectors * lanes) if channel else 1
    group = max(1, -(-_LEAST_PIXELS // count))
    passes = block // channels
    for var in outer:
        passes *= extents[var] or 1
    return _Plan(
        tuple(rows), channel, channels, block, outer, images.var, group, pixels[0].var,
        _strip([x.extent or 1 for x in pixels], (block, vectors * lanes), dtype.itemsize, passes),
        vectors, lanes,
    )  # fmt: skip


def _strip(pixels: list[int], channels: tuple[int, int], itemsize: int, passes: int) -> int:
    """The rows of a large image to sum up at a time, where several passes read them: 0 for all.

    `pixels` are the image's rows and columns, `channels` what a pass reads of a pixel on both sides.
    """
    (rows, *columns), row = pixels, sum(channels) * itemsize
    for extent in columns:
        row *= extent
    if passes == 1 or not columns or rows * row <= _STAYING_BYTES:
        return 0
    least = -(-_LEAST_PIXELS * sum(channels) * itemsize // row)
    strip = _divisor(rows, max(least, _STRIP_BYTES // row))
    return strip if strip < rows else 0


def _divisor(extent: int, most: int) -> int:
    """The largest number up to `most` that divides an extent."""
    return next(f for f in range(min(extent, max(1, most)), 0, -1) if extent % f == 0)


def _block(extent: int, channels: int, vector: Loop, width: int) -> int:
    """Channels that a task goes through: all, or a part where there would be few tasks."""
    tasks = -(-(vector.extent or 1) // width)
    block = extent
    for part in range(1, extent // channels + 1):
        if extent % (part * channels) or (extent // part) < _LEAST_CHANNELS:
            continue
        if extent // part % channels:
            continue
        block = extent // part
        if tasks * part >= _FEW_TASKS:
            break
    return block


def _apply(structure: Structure, vector: Loop, plan: _Plan, target: Target) -> Kernel:
    kernel = structure.kernel
    width = plan.vectors * plan.lanes
    kernel = split(kernel, vector.var, width, "ob", "oi")
    kernel = split(kernel, "oi", plan.lanes, "ov", "ol")
    order = ["ob"]
    if plan.channel:
        kernel = split(kernel, plan.channel, plan.block, "cb", "cr")
        kernel = split(kernel, "cr", plan.channels, "ct", "ci")
        order.append("cb")
    extent = structure.extent
    tasks = -(-(vector.extent or 1) // width)
    if plan.channel:
        tasks *= (extent(plan.channel) or 1) // plan.block
    order += plan.outer
    few = tasks < _FEW_TASKS
    order += ["ct"] if plan.channel else []
    order += plan.rows
    order += ["ci"] if plan.channel else []
    order += ["ov", "ol"]
    kernel = _in_order(simplify_kernel(kernel), order)
    scope = (plan.outer[-1] if few and plan.outer else "") or ("cb" if plan.channel else "ob")
    scope = scope if has_loop(kernel, scope) else "ob"
    if plan.strip:
        kernel = split(kernel, plan.row, plan.strip, "po", "pi")
        kernel = fuse(kernel, plan.images, "po", "mo")
    else:
        kernel = split(kernel, plan.images, plan.group, "mo", "mi", "clip")
    kernel = simplify_kernel(carry(simplify_kernel(kernel), "mo", scope))
    unrolled = [*plan.rows, *(["ci"] if plan.channel else []), "ov"]
    return _unrolled(kernel, unrolled, plan, target)


def _apply_in_batches(
    structure: Structure, vector: Loop, plan: _Plan, chunk: int, target: Target
) -> Kernel:
    """Sums for many pairs of matrices whose rows lie in one memory (schedule/batched.py): tasks of a few pairs."""
    kernel = structure.kernel
    (batch,) = plan.outer
    kernel = split(kernel, vector.var, plan.vectors * plan.lanes, "ob", "oi")
    kernel = split(kernel, "oi", plan.lanes, "ov", "ol")
    kernel = split(kernel, plan.channel, plan.channels, "ct", "ci")
    kernel = split(kernel, batch, chunk, BATCH, "ti")
    order = [BATCH, "ti", "ob", "ct", *plan.rows, "ci", "ov", "ol"]
    kernel = _in_order(kernel, order)
    kernel = split(kernel, plan.images, plan.group, "mo", "mi", "clip")
    kernel = simplify_kernel(carry(kernel, "mo", BATCH))
    return _unrolled(kernel, [*plan.rows, "ci", "ov"], plan, target, BATCH)


def _unrolled(
    kernel: Kernel, unrolled: list[str], plan: _Plan, target: Target, tasks: str = ""
) -> Kernel:
    """The loops of the tile innermost, in straight-line code and vectors."""
    for var in (*unrolled, "ol"):
        if has_loop(kernel, var):
            kernel = sink(kernel, var)
    kernel = simplify_kernel(kernel)
    for var in unrolled:
        if has_loop(kernel, var):
            kernel = unroll(kernel, var)
    kernel = vectorize(kernel, "ol")
    kernel = parallelize(kernel, tasks) if tasks else parallel_top(kernel)
    return finish(kernel, target, "accumulated", plan.tile)


def _in_order(kernel: Kernel, order: list[str]) -> Kernel:
    """The output loops, which stand directly inside one another, in this order."""
    nest: dict[str, For] = {}
    block = kernel.body
    while len(block) == 1 and isinstance(block[0], For) and block[0].var in order:
        nest[block[0].var] = block[0]
        block = block[0].body
    for var in reversed([v for v in order if v in nest]):
        block = (replace(nest[var], body=block),)
    return replace(kernel, body=block)
