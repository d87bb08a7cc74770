"""The order of a tile's outer loops: weights that outgrow a core's cache are read once for all images where that is
less, and asked for ahead; what lies side by side in memory is computed one after the other where the weights stay.
"""

from __future__ import annotations

from math import prod

from convc.loops.ir import Buffer, Expr, For, Kernel, Load, Space
from convc.loops.rewrites import Stream, prefetch_block, reorder
from convc.loops.walking import variables
from convc.schedule.structure import Loop, Structure, depends_on, loads_of, moves_with
from convc.target import Target

# Weights of more than this share of the second-level cache are asked for a block ahead. With the prefetch of residuals,
# one core of AMD Zen 5: ResNet-50 24.4 -> 23.5 ms, its 1x1 convolutions on 7x7 maps 85 -> 100 % of the peak.
_STREAMED = 0.25

# Weights of less than this share of it are there for the next tile of rows again.
_STAYING = 0.6


def is_streamed(weight: Buffer, target: Target) -> bool:
    """Whether weights come from beyond a core's cache, so that they are worth asking for ahead."""
    return weight.space is Space.constant and bytes_of(weight) >= target.l2 * _STREAMED


def ask_ahead(kernel: Kernel, structure: Structure, weight: Buffer, unrolled: str) -> Kernel:
    """Each block of a tiled kernel's weights asked for while the block before it is in use."""
    names = Stream("ob", "jt", f"{structure.reductions[0].var}o", unrolled, "ov", "ol")
    return prefetch_block(kernel, weight.name, names)


def images_inside(
    kernel: Kernel, structure: Structure, still: Expr, moving: Load, blocks: int, target: Target
) -> Kernel:
    """The loop over images inside the one over blocks of columns, where all blocks of weights are read again for each.

    An image's maps are read again for each block then: that has to be less, by half, than the weights, which outgrow
    the second-level cache. On one core of AMD Zen 5, the products of ResNet-50's F(2x2) on 7x7 maps (16 MB of weights)
    take 9.9 ms with 16 images outside, 8.4 with them inside.
    """
    loops = {x.var: x for x in (*structure.outputs, *structure.reductions)}
    around = list[str]()
    block = kernel.body
    while len(block) == 1 and isinstance(block[0], For) and "ob" not in around:
        around.append(block[0].var)
        block = block[0].body
    image = around[0] if around else ""
    if around[-1:] != ["ob"] or image not in loops or loops[image].extent is not None:
        return kernel
    if moves_with(moving, image):
        return kernel
    weight, (read, *more) = structure.buffers[moving.buffer], loads_of(still)
    used = {name for i in read.index for name in variables(i)}
    extents = [x.extent for x in loops.values() if x.var in used and x.var != image]
    if more or None in extents or bytes_of(weight) <= target.l2:
        return kernel
    maps = prod(e for e in extents if e is not None) * read.dtype.itemsize
    if 2 * blocks * maps >= bytes_of(weight):
        return kernel
    for inner in around[1:]:
        kernel = reorder(kernel, image, inner)
    return kernel


def places_inside(
    kernel: Kernel, structure: Structure, still: Expr, moving: Load, row: Loop, target: Target
) -> Kernel:
    """The loops over the places of many small products inside the one over tiles of rows, if places lie side by side.

    Winograd's transformed tiles have all of their places next to one another. With the loop over places outside, a core
    goes over the rows with long strides once for each place, and fetches ahead, for up to 16 more iterations, over the
    end of its share into what another core computes. Two cores of AMD Zen 5 without a cache in common take 164 us for
    the three steps of a convolution of 32 channels and a strip of 28 x 256 pixels, and 102 with the places inside (100
    where the cores have memory of their own, 100 where they have a cache in common, 190 on one core).

    before: for t in 36 { for jt in 32 { … } }       x[t, i, c], i from jt * 14 on, in memory as x[i][t][c]
    after:  for jt in 32 { for t in 36 { … } }
    """
    weight, (read, *more) = structure.buffers[moving.buffer], loads_of(still)
    if more or not 0 < bytes_of(weight) <= target.l2 * _STAYING:
        return kernel
    around = loops_around(kernel, "jt")
    outputs = {x.var for x in structure.outputs}
    places = [v for v in around if v in outputs and moves_with(still, v) and moves_with(moving, v)]
    if not places or not _side_by_side(structure, read.buffer, places, row.var):
        return kernel
    for outer in reversed(around[around.index(places[0]) : -1]):
        kernel = reorder(kernel, outer, "jt")
    return kernel


def loops_around(kernel: Kernel, last: str) -> list[str]:
    """The loops of the perfect nest at a kernel's top, up to one of them; none if that isn't there."""
    found = list[str]()
    block = kernel.body
    while len(block) == 1 and isinstance(block[0], For):
        found.append(block[0].var)
        if block[0].var == last:
            return found
        block = block[0].body
    return []


def _side_by_side(structure: Structure, name: str, places: list[str], row: str) -> bool:
    """Whether a buffer's memory has all the places of a row before the next row's."""
    indexes = [at for buffer, at in structure.accesses() if buffer == name]

    def axes(variables: list[str]) -> list[int]:
        dims = {
            d
            for at in indexes
            for d, i in enumerate(at)
            if any(depends_on(i, v) for v in variables)
        }
        return [i for i, a in enumerate(structure.buffers[name].layout.axes) if a.dim in dims]

    rows = axes([row])
    return bool(rows) and max(rows) < min(axes(places))


def bytes_of(weight: Buffer) -> int:
    """The bytes of a weight, 0 if they aren't known before a call."""
    extents = [e for e in weight.shape if isinstance(e, int)]
    return prod(extents) * weight.dtype.itemsize if len(extents) == len(weight.shape) else 0
