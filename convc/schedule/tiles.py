"""Register tiles: how many rows and vectors of accumulators a contraction works on at a time."""

from __future__ import annotations

from dataclasses import dataclass

# Most vectors that a tile may have.
_VECTORS = 6

# From so many registers on, an instruction takes a broadcast from memory. With fewer, a tile that fills all spills:
# ResNet-50's 1x1 convolutions for AVX2 (16 registers) run at 56 % of the peak in tiles of 4x3, at 99 % in tiles of 6x2.
_MANY_REGISTERS = 32


@dataclass(frozen=True)
class Tile:
    """A register tile: rows x vectors of accumulators."""

    rows: int
    vectors: int

    def fits(self, registers: int) -> bool:
        spare = 0 if registers >= _MANY_REGISTERS else 1
        return self.rows * self.vectors + self.vectors + 1 + spare <= registers


@dataclass(frozen=True)
class TileSpace:
    """The tiles that a kernel may have: of `rows` x `blocks` vectors. A tile of a grouped kernel ends with a group.

    `orders` are the orders of the outer loops that it may have. Where the rows aren't `known` before a call, they are
    a guess.
    """

    rows: int
    blocks: int
    registers: int
    grouped: bool = False
    orders: tuple[str, ...] = ("",)
    known: bool = True

    def allows(self, tile: Tile) -> bool:
        """Whether a kernel may have a tile."""
        inside = 1 <= tile.rows <= self.rows and 1 <= tile.vectors <= min(self.blocks, _VECTORS)
        ends = not self.grouped or (tile.vectors > 0 and self.blocks % tile.vectors == 0)
        return inside and ends and tile.fits(self.registers)

    def tiles(self) -> list[Tile]:
        """Every tile."""
        most = self.registers
        tall = range(1, min(self.rows, most) + 1)
        found = [Tile(r, v) for v in range(1, min(self.blocks, _VECTORS) + 1) for r in tall]
        return [tile for tile in found if self.allows(tile)]

    def cost(self, tile: Tile) -> float:
        """Cycles per step of the reduction for all rows and columns, counting whole tiles.

        A step costs the larger of its multiply-adds and its loads (vectors whole, rows as broadcasts, two per cycle),
        and a few accumulators are needed to hide the latency of an addition: 8 of AVX2 run at 86 % of what 10 do.
        """
        tiles = -(-self.rows // tile.rows) * -(-self.blocks // tile.vectors)
        latency = 4 if self.registers >= _MANY_REGISTERS else 9.3
        step = max(tile.rows * tile.vectors, tile.vectors + tile.rows / 2, latency)
        return tiles * (step + 0.15 * (tile.rows + tile.vectors))

    def ranked(self) -> list[Tile]:
        """Every tile, those that waste least first."""
        return sorted(self.tiles(), key=lambda tile: round(self.cost(tile), 6))


def choose_tile(space: TileSpace) -> Tile:
    """The tile that wastes least."""
    return space.ranked()[0]


@dataclass(frozen=True)
class Heights:
    """The rows that a kernel in lanes may work on at a time: up to `limit` of `rows`."""

    rows: int
    limit: int

    def ranked(self) -> list[int]:
        """Heights that cut the rows evenly, the tallest first."""
        cuts = range(-(-self.rows // self.limit), self.rows + 1)
        return list(dict.fromkeys(-(-self.rows // n) for n in cuts))

    def allows(self, height: int) -> bool:
        return height in self.ranked()
