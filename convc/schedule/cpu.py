"""Schedules for CPUs, chosen by a kernel's loop structure and the target's registers.

- `tiled`: a sum of products in which one factor moves with the vector loop and the other does not (convolution, matrix
  product): a register tile of rows x vectors, the moving factor packed in the order that it is read.
- `accumulated`: the same, where both factors are as large as the sum is long (a convolution's weight gradient).
- `lanes`: everything moves along the vector loop together (depthwise convolution, pooling, means over an image).
- `pointwise`: no reduction: the innermost contiguous loops become one, in vectors.
- `folded`: a reduction whose elements are neighbours in memory: partial results in vectors, folded at the end.
- `transposed`: a copy whose neighbours are neighbours on one side only: in squares.
- `scalar`: what has no loop that is contiguous in the output and linear everywhere else.
"""

from __future__ import annotations

from dataclasses import replace

from convc.loops.ir import (
    Axis,
    Binary,
    Block,
    Const,
    Expr,
    For,
    Kernel,
    Layout,
    Load,
    LoopKind,
    Role,
    Select,
    Space,
    Stmt,
    Var,
    map_block,
    subexpressions,
)
from convc.loops.rewrites import (
    fuse,
    pad_extent,
    parallelize,
    prefetch_results,
    reduction_over,
    relayout,
    reorder,
    sink,
    speculate,
    split,
    split_reduction,
    stage,
    unroll,
    unswitch,
    use_border,
    vectorize,
)
from convc.loops.simplify import linear, simplify_kernel
from convc.schedule.accumulated import accumulated
from convc.schedule.batched import BATCH, block_rows
from convc.schedule.blocks import split_blocks
from convc.schedule.choices import DEFAULT, Choice, Picker
from convc.schedule.dependence import goes_back
from convc.schedule.finishing import finish, has_loop, loop_order, parallel_top
from convc.schedule.lanes import vectorize_lanes
from convc.schedule.own_nests import schedule_own_nest
from convc.schedule.phases import is_phase, split_phases
from convc.schedule.sequences import schedule_sequence
from convc.schedule.streams import ask_ahead, images_inside, places_inside
from convc.schedule.structure import (
    Loop,
    Structure,
    analyse,
    depends_on,
    loads_of,
    moves_with,
)
from convc.schedule.sums import summed_in_parts
from convc.schedule.tiles import Heights, TileSpace
from convc.target import Target

# Unrolled statements per kernel body: enough to hide latency, little enough to compile quickly.
_UNROLL_BUDGET = 160


def schedule_kernel(kernel: Kernel, target: Target, choice: Choice = DEFAULT) -> Kernel:
    """The kernel as the CPU generator takes it, with notes on what was chosen.

    A choice that the kernel can't have is as good as none.
    """
    return _scheduled(kernel, target, Picker(choice))


def alternatives(kernel: Kernel, target: Target) -> list[Choice]:
    """The choices that a kernel can have, those first that the estimate likes; the first is what it takes by itself."""
    picker = Picker()
    _scheduled(kernel, target, picker)
    return picker.alternatives()


def _scheduled(kernel: Kernel, target: Target, picker: Picker) -> Kernel:
    for buffer in kernel.params:
        if buffer.role is Role.in_ and any(b != (0, 0) for b in buffer.layout.border):
            kernel = use_border(kernel, buffer.name)
    kernel = simplify_kernel(kernel)
    structure = None if goes_back(kernel) else analyse(kernel)
    if structure is None:
        return _several(kernel, target, picker)
    structure, vector = _vector_loop(split_blocks(split_phases(structure)))
    if vector is None:
        return (
            _folded(structure, target)
            or _transposed(structure, target)
            or _scalar(structure, target)
        )
    if not structure.reductions:
        return _pointwise(structure, vector, target)
    factors = structure.contraction()
    if factors is not None:
        for still, moving in (factors, factors[::-1]):
            if moves_with(still, vector.var) or not moves_with(moving, vector.var):
                continue
            loads = loads_of(moving)
            if len(loads) == 1 and not _is_computed(moving):
                scheduled = accumulated(structure, vector, still, loads[0], target)
                if scheduled is not None:
                    return scheduled
                return _tiled(structure, vector, still, loads[0], target, picker)
        for still, moving in (factors, factors[::-1]):
            if isinstance(moving, Load) and moves_with(still, vector.var):
                scheduled = accumulated(structure, vector, still, moving, target)
                if scheduled is not None:
                    return scheduled
    return _lanes(structure, vector, target, picker)


def _several(kernel: Kernel, target: Target, picker: Picker) -> Kernel:
    """Nests one after the other, each scheduled alone, all in one task; or one of any form."""
    sequence = schedule_sequence(kernel, target)
    if sequence is not None:
        return sequence
    if len(kernel.body) == 1:
        return finish(schedule_own_nest(kernel), target, "serial", "")
    body: list[Stmt] = []
    for stmt in kernel.body:
        alone = replace(kernel, body=(stmt,))
        nest = _is_nest(stmt)
        done = (
            _scheduled(alone, target, picker)
            if nest
            else finish(vectorize_lanes(alone), target, "", "")
        )
        body.extend(_serial(done.body))
    return replace(finish(replace(kernel, body=()), target, "serial", ""), body=tuple(body))


def _is_nest(stmt: Stmt) -> bool:
    nest = Kernel("nest", (), (stmt,))
    return isinstance(stmt, For) and not goes_back(nest) and analyse(nest) is not None


def _serial(block: Block) -> Block:
    def on_stmt(stmt: Stmt) -> Block:
        if isinstance(stmt, For) and stmt.kind is LoopKind.parallel:
            return (replace(stmt, kind=LoopKind.serial),)
        return (stmt,)

    return map_block(block, on_stmt=on_stmt)


# ---------------------------------------------------------------- choosing the vector loop


def _vector_loop(structure: Structure) -> tuple[Structure, Loop | None]:
    """The output loop whose neighbours are neighbours in memory, if every access is linear in it."""
    outputs = {b.name for b in structure.kernel.params if b.role is not Role.in_}
    for loop in structure.outputs:
        if structure.output_step(loop.var) != 1 or loop.extent in (None, 1):
            continue
        split_up = _by_group(structure, loop)
        if split_up is not None:
            structure, loop = split_up
        stores = {at: buffer for buffer, at in structure.accesses() if buffer in outputs}
        if all(_vectorizable(structure, load, loop.var) for load in structure.loads()) and all(
            structure.step(buffer, at, loop.var) == 1 for at, buffer in stores.items()
        ):
            return structure, loop
    return structure, _packed_loop(structure)


def _packed_loop(structure: Structure) -> Loop | None:
    """Failing a contiguous one: the loop that a packed factor moves with and the other doesn't.

    The output is then written lane by lane, once per sum: a convolution whose result is wanted channels first.
    """
    factors = structure.contraction()
    if factors is None:
        return None
    for still, moving in (factors, factors[::-1]):
        if not isinstance(moving, Load) or not _is_packed(structure, moving):
            continue
        for loop in structure.outputs:
            if loop.extent in (None, 1) or moves_with(still, loop.var):
                continue
            steady = all(
                structure.step(x.buffer, x.index, loop.var) is not None for x in structure.loads()
            )
            if steady and moves_with(moving, loop.var) and structure.output_step(loop.var):
                return loop
    return None


def _is_packed(structure: Structure, load: Load) -> bool:
    return structure.buffers[load.buffer].space is Space.constant


def _vectorizable(structure: Structure, load: Load, var: str) -> bool:
    """Linear in the loop, in small steps; packed weights may move by any, since packing makes it one."""
    moved = structure.step(load.buffer, load.index, var)
    return moved is not None and (_is_packed(structure, load) or moved <= 4)


def _by_group(structure: Structure, loop: Loop) -> tuple[Structure, Loop] | None:
    """A channel loop as groups x channels, where an input is indexed by `channel // size` (grouped convolution)."""
    divisors = {
        e.b
        for load in structure.loads()
        for i in load.index
        for e in subexpressions(i)
        if isinstance(e, Binary) and e.op in ("//", "%") and depends_on(e, loop.var)
    }
    sizes = [int(d.value) for d in divisors if isinstance(d, Const)]
    if len(divisors) != 1 or not sizes or loop.extent is None:
        return None
    (size,) = sizes
    if size <= 1 or loop.extent % size:
        return None
    inner = f"{loop.var}g"
    kernel = split(structure.kernel, loop.var, size, loop.var, inner)
    again = analyse(simplify_kernel(kernel))
    assert again is not None
    return again, Loop(inner, size, grouped=True)


# ---------------------------------------------------------------- tiled


# Bytes of a local buffer that holds a tile's input, at the most: part of the second-level cache, and of a stack.
_STAGED_BYTES = 64 << 10


def _tiled(
    structure: Structure, vector: Loop, still: Expr, moving: Load, target: Target, picker: Picker
) -> Kernel:
    """A register tile: rows that only `still` moves with, times vectors that only `moving` moves with.

    Where `still` is itself computed (a normalised and activated input), it is computed once per tile and kept.
    """
    dtype = structure.updates[0].value.dtype
    lanes = vector.lanes(target.lanes(dtype.itemsize))
    kernel, structure, row = _row_loop(structure, vector, still, moving)
    blocks = None if row is None else block_rows(structure, vector, still, moving, row)
    if blocks is not None:
        structure, row = blocks
        kernel = structure.kernel
    columns = vector.extent or 1
    rows = (row.extent or 8) if row is not None else 1
    (depth, *more) = (loop.extent for loop in structure.reductions)
    staged = row is not None and _is_computed(still) and depth is not None and not more
    if staged and depth is not None:
        rows = max(1, min(rows, _STAGED_BYTES // (depth * dtype.itemsize)))
        kernel, structure = _staged(structure, vector)
    known = row is None or row.extent is not None
    turns = row is not None and known and not staged and not vector.grouped
    space = TileSpace(
        rows,
        -(-columns // lanes),
        target.vector_registers,
        grouped=vector.grouped,
        orders=("", "rows") if turns else ("",),
        known=known,
    )
    tile, order = picker.tile(space)
    width = tile.vectors * lanes
    weight = structure.buffers[moving.buffer]
    kernel = split(kernel, vector.var, width, "ob", "oi", "guard")
    kernel = split(kernel, "oi", lanes, "ov", "ol", "guard")
    if row is not None:
        tail = "overlap" if row.extent is not None and row.extent >= tile.rows else "peel"
        kernel = split(kernel, row.var, tile.rows, "jt", "jp", tail)
    kernel, innermost = _inner_reduction(kernel, structure, still)
    if staged:
        kernel = split(kernel, "stage", lanes, "sb", "sl", "guard")
    kernel = simplify_kernel(kernel)
    for var in ("jp", "ov", "ol"):
        if var != "jp" or row is not None:
            kernel = sink(kernel, var)
    if order == "rows":
        kernel = _columns_inside(kernel)
    elif row is not None and not staged and weight.space is Space.constant:
        blocks_of_columns = -(-columns // width)
        kernel = images_inside(kernel, structure, still, moving, blocks_of_columns, target)
        kernel = places_inside(kernel, structure, still, moving, row, target)
    if staged:
        kernel = vectorize(sink(relayout(kernel, "staged", Layout.permuted((1, 0))), "sl"), "sl")
    if weight.space is Space.constant:
        kernel = _packed(kernel, structure, moving, vector, width)
    kernel = _pad_vectors(kernel, structure, vector.var, width)
    kernel = unswitch(speculate(simplify_kernel(kernel)))
    kernel = prefetch_results(kernel, "ol")
    if len(structure.reductions) == 1 and not order:
        kernel = ask_ahead(kernel, structure, weight, innermost, target)
    unrolled = [v for v in ("jp", "ov", innermost) if has_loop(kernel, v)]
    for var in unrolled:
        kernel = unroll(kernel, var)
    kernel = vectorize(kernel, "ol")
    kernel = parallel_top(kernel) if blocks is None else parallelize(kernel, BATCH)
    return finish(kernel, target, "tiled", f"{tile.rows}x{tile.vectors}x{lanes}")


def _columns_inside(kernel: Kernel) -> Kernel:
    """The loop over blocks of columns innermost of the loops around a tile."""
    block, around = kernel.body, list[str]()
    while len(block) == 1 and isinstance(block[0], For):
        around.append(block[0].var)
        block = block[0].body
    for inner in around[around.index("ob") + 1 :] if "ob" in around else ():
        kernel = reorder(kernel, "ob", inner)
    return kernel


def _is_computed(expr: Expr) -> bool:
    """True for more than a load behind its guard."""
    return not isinstance(expr, Load) and not (
        isinstance(expr, Select) and isinstance(expr.then, Load)
    )


def _staged(structure: Structure, vector: Loop) -> tuple[Kernel, Structure]:
    """The vector loop innermost of the output loops, and the still factor in a local buffer around it."""
    again = analyse(_innermost_output(structure, vector.var))
    assert again is not None
    factors = again.contraction()
    assert factors is not None
    still = next(f for f in factors if not moves_with(f, vector.var))
    return stage(again.kernel, still, again.reductions[0].var, vector.var, "staged"), again


# A loop of so many rows fills a tile of every batch, as one of a symbolic extent may not.
_TILED_ROWS = 8


def _row_loop(
    structure: Structure, vector: Loop, still: Expr, moving: Expr
) -> tuple[Kernel, Structure, Loop | None]:
    """The output loop to tile beside the vectors: the innermost that only the still factor moves with.

    Two loops that run through memory as one become one first (the pixels of a 1x1 convolution).
    """
    rows = [
        x
        for x in structure.outputs
        if x.var != vector.var
        and x.extent != 1
        and _moves_evenly(structure, still, x.var)
        and not moves_with(moving, x.var)
    ]
    if not rows:
        return structure.kernel, structure, None
    long = [x for x in rows if x.extent is not None and x.extent >= _TILED_ROWS]
    row = min(rows, key=lambda x: structure.output_step(x.var) or 1 << 60)
    if row.extent is None and long:
        row = min(long, key=lambda x: structure.output_step(x.var) or 1 << 60)
    others = [x for x in rows if x is not row and x.extent is not None]
    outer = min(others, key=lambda x: structure.output_step(x.var) or 1 << 60, default=None)
    if outer is not None and row.extent is not None and _runs_on(structure, outer, row):
        kernel = _adjacent(structure, outer.var, row.var)
        fused = f"{outer.var}_{row.var}"  # a name that no formula gives a loop
        kernel = simplify_kernel(fuse(kernel, outer.var, row.var, fused))
        again = analyse(kernel)
        if again is not None and all(
            again.step(x.buffer, x.index, fused) is not None for x in again.loads()
        ):
            assert outer.extent is not None
            return kernel, again, Loop(fused, outer.extent * row.extent)
    kernel = _innermost_output(structure, row.var)
    again = analyse(kernel)
    assert again is not None
    return kernel, again, row


def _moves_evenly(structure: Structure, expr: Expr, var: str) -> bool:
    """True if every load moves with the loop, or stays, by one distance per step (in phases it may not).

    The distance may be a multiple of a symbol: rows that have a batch between them.
    """
    even = all(
        structure.step(x.buffer, x.index, var) is not None or _is_even(structure, x, var)
        for x in loads_of(expr)
    )
    return even and moves_with(expr, var)


def _is_even(structure: Structure, load: Load, var: str) -> bool:
    """Whether an index is linear in a variable, in dimensions that no layout cuts up."""
    layout = structure.buffers[load.buffer].layout
    cut = {a.dim for a in layout.axes if a.divide != 1 or a.modulus is not None}
    for dim, at in enumerate(load.index):
        if not depends_on(at, var):
            continue
        atoms = [atom for atom in linear(at)[0] if depends_on(atom, var)]
        if dim in cut or atoms != [Var(var)]:
            return False
    return True


def _runs_on(structure: Structure, outer: Loop, inner: Loop) -> bool:
    """True if one step of `outer` is `extent` steps of `inner` in every access."""
    assert inner.extent is not None
    for buffer, at in structure.accesses():
        a, b = structure.step(buffer, at, outer.var), structure.step(buffer, at, inner.var)
        if a is None or b is None or a != b * inner.extent:
            return False
    return True


def _adjacent(structure: Structure, outer: str, inner: str) -> Kernel:
    """`inner` directly inside `outer`, both innermost of the output loops."""
    kernel = _innermost_output(structure, outer)
    again = analyse(kernel)
    assert again is not None
    return _innermost_output(again, inner)


def _innermost_output(structure: Structure, var: str) -> Kernel:
    kernel = structure.kernel
    names = [x.var for x in structure.outputs]
    for inner in names[names.index(var) + 1 :]:
        kernel = reorder(kernel, var, inner)
    return kernel


def _inner_reduction(kernel: Kernel, structure: Structure, still: Expr) -> tuple[Kernel, str]:
    """The reduction loop along which the still factor is contiguous goes inside, and is split for unrolling."""
    names = [x.var for x in structure.reductions]
    read = loads_of(still)[0]
    along = [x for x in names if structure.step(read.buffer, read.index, x) == 1]
    inner = along[0] if along else names[-1]
    for other in names[names.index(inner) + 1 :]:
        kernel = reorder(kernel, inner, other)
    extent = structure.extent(inner)
    if extent is not None and extent <= 4:
        return kernel, inner
    factor = next(f for f in (4, 3, 5, 2, 1) if f == 1 or extent and extent % f == 0)
    if factor == 1:
        return split(kernel, inner, 4, f"{inner}o", f"{inner}i", "peel"), f"{inner}i"
    return split(kernel, inner, factor, f"{inner}o", f"{inner}i"), f"{inner}i"


def _packed(kernel: Kernel, structure: Structure, moving: Load, vector: Loop, width: int) -> Kernel:
    """The moving factor in the order in which the kernel reads it: blocks of `width` columns, reductions inside."""
    buffer = structure.buffers[moving.buffer]
    column = _dim_of(moving, vector.var)
    if column is None or not _in_step(moving.index[column], vector.var, width):
        return kernel
    order = [x.var for x in structure.reductions]
    along = [d for d in range(len(buffer.shape)) if d != column]
    still_first = [d for d in along if not _dim_in(moving, d, order)]
    reduced = [d for d in along if _dim_in(moving, d, order)]
    reduced.sort(key=lambda d: _reduction_rank(kernel, moving, d, order))
    axes = (
        *(Axis(d) for d in still_first),
        Axis(column, width),
        *(Axis(d) for d in reduced),
        Axis(column, 1, width),
    )
    return relayout(kernel, moving.buffer, Layout(axes, ((0, 0),) * len(buffer.shape)))


def _in_step(expr: Expr, var: str, width: int) -> bool:
    """True if an index runs with a loop, and begins at multiples of `width` wherever the loop does."""
    terms, constant = linear(expr)
    rest = [c for atom, c in terms.items() if atom != Var(var)]
    return terms.get(Var(var)) == 1 and all(c % width == 0 for c in (*rest, constant))


def _dim_of(load: Load, var: str) -> int | None:
    dims = [d for d, i in enumerate(load.index) if depends_on(i, var)]
    return dims[0] if len(dims) == 1 else None


def _dim_in(load: Load, dim: int, names: list[str]) -> bool:
    return any(depends_on(load.index[dim], v) for v in names)


def _reduction_rank(kernel: Kernel, load: Load, dim: int, names: list[str]) -> int:
    """Outer reduction loops first: the one that was moved inside is the last."""
    order = loop_order(kernel)
    ranks = [
        order.index(v) if v in order else len(order)
        for v in names
        if depends_on(load.index[dim], v)
    ]
    return max(ranks, default=0)


def _pad_vectors(kernel: Kernel, structure: Structure, var: str, multiple: int) -> Kernel:
    """Rounds weights up along the vector loop, so that only the final store needs a mask."""
    for load in structure.loads():
        buffer = structure.buffers[load.buffer]
        if buffer.space is not Space.constant:
            continue
        dim = _dim_of(load, var)
        if dim is not None and isinstance(buffer.shape[dim], int) and buffer.shape[dim] > 1:  # type: ignore[operator]
            kernel = pad_extent(kernel, load.buffer, dim, multiple)
    return kernel


# ---------------------------------------------------------------- lanes


def _lanes(structure: Structure, vector: Loop, target: Target, picker: Picker) -> Kernel:
    """All accesses move along the vector loop together; rows share what they load.

    The phases of a strided window are unrolled: which taps they have is known then.
    """
    structure, phases = _phases_inside(structure)
    kernel = structure.kernel
    lanes = vector.lanes(_lanes_for(structure, target))
    taps = 1
    for loop in structure.reductions:
        taps *= loop.extent or 1 << 20
    small = taps <= 25
    rows = [
        x
        for x in structure.outputs
        if x.var != vector.var and x.extent not in (1, None) and x.var not in phases
    ]
    row = min(rows, key=lambda x: structure.output_step(x.var) or 1 << 60, default=None)
    guarded = _has_guards(structure, phases)
    height = 1
    if small and row is not None and not guarded:
        taps *= max(1, len(phases)) * 2 if phases else 1
        limit = min(target.vector_registers // 2 - 2, max(1, _UNROLL_BUDGET // taps))
        height = picker.height(Heights(row.extent or 1, limit))
    if row is not None and height > 1:
        kernel = _ordered(structure, [row.var, *phases])
        kernel = split(kernel, row.var, height, "jt", "jp", "overlap")
    kernel = split(kernel, vector.var, lanes, "ob", "ol", "guard")
    kernel = simplify_kernel(summed_in_parts(kernel, structure.reductions))
    if row is not None and height > 1:
        kernel = sink(kernel, "jp")
    kernel = sink(kernel, "ol")
    kernel = _constant_layouts(kernel, structure, vector)
    kernel = _pad_vectors(kernel, structure, vector.var, lanes)
    kernel = speculate(simplify_kernel(kernel))
    for loop in structure.reductions:
        if small and not guarded and has_loop(kernel, loop.var):
            kernel = unroll(kernel, loop.var)
    for var in (*(["jp"] if height > 1 else []), *phases):
        kernel = unroll(kernel, var)
    kernel = vectorize(kernel, "ol")
    kernel = parallel_top(kernel)
    return finish(kernel, target, "lanes", f"{height}x{lanes}")


def _lanes_for(structure: Structure, target: Target) -> int:
    """Lanes of the widest type that the kernel computes in."""
    sizes = [structure.store.value.dtype.itemsize]
    sizes += [u.value.dtype.itemsize for u in structure.updates]
    return target.lanes(max(max(sizes), 4))


def _phases_inside(structure: Structure) -> tuple[Structure, tuple[str, ...]]:
    """The loops over phases innermost of the output loops, and their names."""
    phases = tuple(x.var for x in structure.outputs if is_phase(x))
    again = analyse(_ordered(structure, list(phases)))
    assert again is not None
    return again, phases


def _has_guards(structure: Structure, phases: tuple[str, ...]) -> bool:
    """True if what is read is guarded by more than which tap of which phase it is."""
    known = {*phases, *(x.var for x in structure.reductions)}
    return any(
        isinstance(e, Select)
        and any(isinstance(x, Load) for y in (e.then, e.otherwise) for x in subexpressions(y))
        and not {v.name for v in subexpressions(e.condition) if isinstance(v, Var)} <= known
        for u in structure.updates
        for e in subexpressions(u.value)
    )


def _constant_layouts(kernel: Kernel, structure: Structure, vector: Loop) -> Kernel:
    """Weights with their vector dimension innermost."""
    for load in structure.loads():
        buffer = structure.buffers[load.buffer]
        dim = _dim_of(load, vector.var)
        if buffer.space is Space.constant and dim is not None:
            order = [d for d in range(len(buffer.shape)) if d != dim]
            kernel = relayout(kernel, load.buffer, Layout.permuted((*order, dim)))
    return kernel


# ---------------------------------------------------------------- pointwise and scalar


def _pointwise(structure: Structure, vector: Loop, target: Target) -> Kernel:
    """Loops in the order of the output's memory; those that run on in every access become one, then vectors."""
    order = sorted(structure.outputs, key=lambda x: -(structure.output_step(x.var) or 1 << 60))
    kernel = _ordered(structure, [x.var for x in order])
    again = analyse(kernel)
    assert again is not None
    structure = again
    inner = next(x for x in structure.outputs if x.var == vector.var)
    while len(structure.outputs) > 1:
        outer = structure.outputs[-2]
        if inner.extent is None or outer.extent is None or not _runs_on(structure, outer, inner):
            break
        fused = f"{outer.var}{inner.var}"
        candidate = simplify_kernel(fuse(structure.kernel, outer.var, inner.var, fused))
        again = analyse(candidate)
        if again is None or again.output_step(fused) != 1:
            break
        if any(again.step(x.buffer, x.index, fused) is None for x in again.loads()):
            break
        structure, inner = again, again.outputs[-1]
    lanes = inner.lanes(_lanes_for(structure, target))
    kernel = split(structure.kernel, inner.var, lanes, "ib", "il", "guard")
    kernel = vectorize(simplify_kernel(kernel), "il")
    kernel = parallel_top(kernel)
    return finish(kernel, target, "pointwise", f"{lanes}")


def _ordered(structure: Structure, names: list[str]) -> Kernel:
    kernel = structure.kernel
    for name in names:
        again = analyse(kernel)
        assert again is not None
        kernel = _innermost_output(again, name)
    return kernel


# Vectors of partial results that hide the latency of an addition; a reduction of fewer lanes' worth stays as it is.
_PARTIAL_VECTORS = 4


def _folded(structure: Structure, target: Target) -> Kernel | None:
    """The innermost reduction in vectors, where every access is contiguous along it or stays; None otherwise."""
    structure = _one_reduction(structure)
    lanes = _lanes_for(structure, target)
    if not structure.reductions or lanes < 2:
        return None
    inner = structure.reductions[-1]
    reduction = reduction_over(structure.kernel, inner.var)
    if reduction is None or reduction.extent < _PARTIAL_VECTORS * lanes:
        return None
    steps = [structure.step(x.buffer, x.index, inner.var) for x in loads_of(reduction.update)]
    if 1 not in steps or not set(steps) <= {0, 1} or _is_guarded(reduction.update, inner.var):
        return None
    vectors = min(_PARTIAL_VECTORS, reduction.extent // (_PARTIAL_VECTORS * lanes))
    kernel = simplify_kernel(split_reduction(structure.kernel, inner.var, lanes, vectors))
    kernel = unroll(kernel, f"{inner.var}v")
    for suffix in "lf":
        kernel = vectorize(kernel, f"{inner.var}{suffix}")
    return finish(parallel_top(kernel), target, "folded", f"{vectors}x{lanes}")


def _one_reduction(structure: Structure) -> Structure:
    """Reductions that run on in every access become one."""
    while len(structure.reductions) > 1:
        outer, inner = structure.reductions[-2:]
        if inner.extent is None or outer.extent is None or not _runs_on(structure, outer, inner):
            break
        fused = f"{outer.var}{inner.var}"
        again = analyse(simplify_kernel(fuse(structure.kernel, outer.var, inner.var, fused)))
        if again is None or any(
            again.step(x.buffer, x.index, fused) is None for x in again.loads()
        ):
            break
        structure = again
    return structure


def _is_guarded(expr: Expr, var: str) -> bool:
    """True if a condition depends on a variable."""
    return any(isinstance(e, Select) and depends_on(e.condition, var) for e in subexpressions(expr))


# Sides of the squares that a transposition goes through: a cache line of rows, and lines that a cache holds.
_SQUARE = 16


def _transposed(structure: Structure, target: Target) -> Kernel | None:
    """Square by square, where neighbours of the output aren't neighbours in what is read; None otherwise.

    What is read and what is written are then whole cache lines. What is computed on the way is computed in vectors of
    neighbours that were read, which are stored one by one.
    """
    if structure.reductions:
        return None
    loads = dict.fromkeys(x for x in structure.loads() if not _is_packed(structure, x))
    written = next((x for x in structure.outputs if structure.output_step(x.var) == 1), None)
    if len(loads) != 1 or written is None:
        return None
    (load,) = loads
    steps = {x.var: structure.step(load.buffer, load.index, x.var) for x in structure.outputs}
    read = next((x for x in structure.outputs if steps[x.var] == 1), None)
    if read is None or read.var == written.var or steps[written.var] is None:
        return None
    if min(written.extent or 1, read.extent or 1) < 4 or structure.output_step(read.var) is None:
        return None
    computed = not isinstance(structure.store.value, Load)
    steady = all(structure.step(x.buffer, x.index, read.var) is not None for x in structure.loads())
    if computed and not steady:
        return None
    kernel = structure.kernel
    tall = min(2 * _SQUARE, written.extent or 1)
    wide = min(_SQUARE, read.extent or 1)
    if computed:
        wide = min(_lanes_for(structure, target), 1 << (read.extent or 1).bit_length() - 1)
    # The last square may compute some elements again: they are read from a buffer that isn't written.
    kernel = split(kernel, written.var, tall, "at", "ai", "overlap")
    kernel = simplify_kernel(split(kernel, read.var, wide, "bt", "bi", "overlap"))
    again = analyse(kernel)
    assert again is not None
    kernel = _ordered(again, ["at", "bt", "ai", "bi"])
    kernel = vectorize(kernel, "bi") if computed else unroll(kernel, "bi")
    return finish(parallel_top(kernel), target, "transposed", f"{tall}x{wide}")


def _scalar(structure: Structure, target: Target) -> Kernel:
    kernel = summed_in_parts(structure.kernel, structure.reductions)
    return finish(parallel_top(kernel), target, "scalar", "")
