"""Register tiles: how many rows and vectors of accumulators a contraction works on at a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A register tile: rows x vectors of accumulators."""

    rows: int
    vectors: int

    def fits(self, registers: int) -> bool:
        return self.rows * self.vectors + self.vectors + 1 <= registers


def choose_tile(rows: int, columns: int, lanes: int, registers: int, grouped: bool = False) -> Tile:
    """The tile that wastes least: cycles per useful multiply-add, counting whole tiles.

    A step of the reduction costs the larger of its multiply-adds and its loads (vectors whole, rows as broadcasts,
    two per cycle), and a few accumulators are needed to hide the latency of an addition. A tile ends with a group.
    """
    blocks = -(-columns // lanes)
    best: tuple[float, Tile] | None = None
    for vectors in range(1, min(blocks, 6) + 1):
        if grouped and blocks % vectors:
            continue
        for height in range(1, rows + 1):
            tile = Tile(height, vectors)
            if not tile.fits(registers):
                break
            tiles = -(-rows // height) * -(-blocks // vectors)
            latency = 4 if registers >= 32 else 8
            step = max(height * vectors, vectors + height / 2, latency)
            cost = tiles * (step + 0.15 * (height + vectors))
            if best is None or cost < best[0] - 1e-9:
                best = (cost, tile)
    assert best is not None
    return best[1]
