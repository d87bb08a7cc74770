"""How much of an entry's work threads may share: what a call decides by whether they take part at all."""

from __future__ import annotations

from dataclasses import dataclass

from convc.program.ir import Entry
from convc.types import Extent


@dataclass(frozen=True)
class Work:
    """Steps that are worth sharing where `product`, one of symbols, is at least `least`, a power of two.

    One thread takes `time` nanoseconds for them, and this as many times as the symbol `turns` says where they are in a
    loop over its values.
    """

    product: Extent
    turns: str
    least: int
    time: Extent


def shared_work(entry: Entry) -> list[Work]:
    """The steps that threads may share, in the few groups that are worth it from about the same batch on."""
    totals: dict[tuple[Extent, str, int], Extent] = {}
    for step in entry.steps:
        share = step.share
        if share is not None and share.least is not None:
            least = 1 << (share.least - 1).bit_length()
            key = (share.product, step.each, least)
            totals[key] = totals.get(key, 0) + share.time
    return [Work(*key, total) for key, total in totals.items()]
