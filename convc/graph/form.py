"""What a value is to an operator, where its type doesn't say so: lowering decides by it where the value lies."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Form(enum.Enum):
    """A form, with the dimensions of a value that has it."""

    __hash__ = object.__hash__

    image = "n, c, h, w: windows move over it"
    tiles = "n, tap, i, j, c: the transformed tiles (i, j) of each image"
    tile_rows = "tap, p, c: the transformed tiles of all images, a row p each"
    filter = "o, c, r, s: weights that the operator transforms"
    filter_taps = "tap, c, o: a transformed filter"
    filter_gradient = "o, c, r, s: sums over all images that were transformed back"


@dataclass(frozen=True)
class Forms:
    """The forms of an operator's inputs and of its outputs, by position; None where there is nothing to say."""

    inputs: tuple[Form | None, ...] = ()
    outputs: tuple[Form | None, ...] = ()
