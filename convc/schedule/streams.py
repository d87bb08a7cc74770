"""Weights that outgrow a core's cache: read once for all images where that is less, and asked for ahead."""

from __future__ import annotations

from math import prod

from convc.loops.ir import Buffer, Expr, For, Kernel, Load, Space, Var, subexpressions
from convc.loops.rewrites import Stream, prefetch_block, reorder
from convc.schedule.structure import Structure, loads_of, moves_with
from convc.target import Target

# Weights of more than this share of the second-level cache are asked for a block ahead. With the prefetch of residuals,
# one core of AMD Zen 5: ResNet-50 24.4 -> 23.5 ms, its 1x1 convolutions on 7x7 maps 85 -> 100 % of the peak.
_STREAMED = 0.25


def ask_ahead(
    kernel: Kernel, structure: Structure, weight: Buffer, unrolled: str, target: Target
) -> Kernel:
    """Each block of a tiled kernel's weights asked for while the block before it is in use."""
    if weight.space is not Space.constant or bytes_of(weight) < target.l2 * _STREAMED:
        return kernel
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
    used = {v.name for i in read.index for v in subexpressions(i) if isinstance(v, Var)}
    extents = [x.extent for x in loops.values() if x.var in used and x.var != image]
    if more or None in extents or bytes_of(weight) <= target.l2:
        return kernel
    maps = prod(e for e in extents if e is not None) * read.dtype.itemsize
    if 2 * blocks * maps >= bytes_of(weight):
        return kernel
    for inner in around[1:]:
        kernel = reorder(kernel, image, inner)
    return kernel


def bytes_of(weight: Buffer) -> int:
    """The bytes of a weight, 0 if they aren't known before a call."""
    extents = [e for e in weight.shape if isinstance(e, int)]
    return prod(extents) * weight.dtype.itemsize if len(extents) == len(weight.shape) else 0
