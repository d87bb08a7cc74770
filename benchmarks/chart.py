"""Bars as SVG pictures: how many times as fast convc is as the best of the others, and figures side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

BARS, STEP, HEIGHT = 420, 20, 14
CHARACTER = 7.5
"""Pixels that a character takes at most, on the average, in the fonts of the browsers."""
COLOURS = {1: "#2563eb", 2: "#93b4f5"}
OTHER = "#c3cad6"


def write_chart(path: Path, ratios: Mapping[tuple[str, int, int], float]) -> None:
    """Writes a chart of ratios by network, batch and threads. A line marks the best of the others, at 1."""
    longest = max((*ratios.values(), 1.5))
    unit = BARS / longest
    parts = []
    labels = [label_of(*line) for line in ratios]
    left = width_of(labels)
    for k, ((_, _, threads), ratio) in enumerate(ratios.items()):
        top = 30 + k * STEP
        colour = COLOURS.get(threads, OTHER)
        parts += [
            f'<text x="{left - 8}" y="{top + 11}" text-anchor="end">{escape(labels[k])}</text>',
            f'<rect x="{left}" y="{top}" width="{ratio * unit:.1f}" height="{HEIGHT}" fill="{colour}"/>',
            f'<text x="{left + ratio * unit + 5:.1f}" y="{top + 11}">{ratio:.2f}x</text>',
        ]
    bottom = 30 + len(ratios) * STEP
    best = left + unit
    parts += [
        f'<line x1="{best:.1f}" y1="22" x2="{best:.1f}" y2="{bottom}" stroke="#111" stroke-dasharray="4 3"/>',
        f'<text x="{best:.1f}" y="16" text-anchor="middle">best of the others</text>',
    ]
    write_svg(path, left + BARS + 60, bottom + 10, parts)


def label_of(name: str, batch: int, threads: int) -> str:
    return f"{name}{f', batch {batch}' if batch > 1 else ''}, {threads} thread{'s' * (threads > 1)}"


def width_of(labels: Sequence[str]) -> int:
    """Pixels that are enough for labels and the space behind them."""
    return 16 + round(CHARACTER * max(map(len, labels), default=0))


def write_svg(path: Path, width: int, height: int, parts: Sequence[str]) -> None:
    """Writes a picture of so many pixels."""
    size = f'width="{width}" height="{height}"'
    style = 'font-family="system-ui, sans-serif" font-size="12" fill="#111"'
    background = '<rect width="100%" height="100%" fill="#fff"/>'
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{background}\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


@dataclass(frozen=True)
class Panel:
    """Bars beside the same labels: for each a dark and a light one, such as cold and warm, and what they say.

    Bars end at `limit`; where there is a `mark`, a line stands there.
    """

    title: str
    bars: Sequence[tuple[float, float]]
    unit: str
    limit: float
    mark: float | None = None


PANEL, GAP = 200, 90


def write_panels(path: Path, labels: Sequence[str], panels: Sequence[Panel]) -> None:
    """Writes panels side by side."""
    parts, bottom = [], 34 + 2 * STEP * len(labels)
    first = width_of(labels)
    for k, label in enumerate(labels):
        top = 34 + 2 * STEP * k
        parts.append(
            f'<text x="{first - 8}" y="{top + 19}" text-anchor="end">{escape(label)}</text>'
        )
    for column, panel in enumerate(panels):
        left = first + column * (PANEL + GAP)
        parts.append(f'<text x="{left}" y="16" font-weight="bold">{escape(panel.title)}</text>')
        scale = PANEL / panel.limit
        for k, pair in enumerate(panel.bars):
            for j, (value, colour) in enumerate(zip(pair, COLOURS.values(), strict=True)):
                top, length = 34 + 2 * STEP * k + j * HEIGHT, min(value, panel.limit) * scale
                more = " …" if value > panel.limit else ""
                parts += [
                    f'<rect x="{left}" y="{top}" width="{length:.1f}" height="{HEIGHT - 1}" fill="{colour}"/>',
                    f'<text x="{left + length + 4:.1f}" y="{top + 11}">{value:.2f}{panel.unit}{more}</text>',
                ]
        if panel.mark is not None:
            at = left + panel.mark * scale
            place = f'x1="{at:.1f}" y1="26" x2="{at:.1f}" y2="{bottom}"'
            parts.append(f'<line {place} stroke="#111" stroke-dasharray="4 3"/>')
    write_svg(path, first + len(panels) * (PANEL + GAP), bottom + 10, parts)
