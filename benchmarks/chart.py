"""A bar per line of a benchmark: how many times as fast convc is as the best of the others, as an SVG picture."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

LABELS, BARS, STEP, HEIGHT = 190, 420, 20, 14
COLOURS = {1: "#2563eb", 2: "#93b4f5"}
OTHER = "#c3cad6"


def write_chart(path: Path, ratios: Mapping[tuple[str, int, int], float]) -> None:
    """Writes a chart of ratios by network, batch and threads. A line marks the best of the others, at 1."""
    longest = max((*ratios.values(), 1.5))
    unit = BARS / longest
    parts = []
    for k, ((name, batch, threads), ratio) in enumerate(ratios.items()):
        top = 30 + k * STEP
        label = f"{name}{f', batch {batch}' if batch > 1 else ''}, {threads} thread{'s' * (threads > 1)}"
        colour = COLOURS.get(threads, OTHER)
        parts += [
            f'<text x="{LABELS - 8}" y="{top + 11}" text-anchor="end">{escape(label)}</text>',
            f'<rect x="{LABELS}" y="{top}" width="{ratio * unit:.1f}" height="{HEIGHT}" fill="{colour}"/>',
            f'<text x="{LABELS + ratio * unit + 5:.1f}" y="{top + 11}">{ratio:.2f}x</text>',
        ]
    bottom = 30 + len(ratios) * STEP
    best = LABELS + unit
    parts += [
        f'<line x1="{best:.1f}" y1="22" x2="{best:.1f}" y2="{bottom}" stroke="#111" stroke-dasharray="4 3"/>',
        f'<text x="{best:.1f}" y="16" text-anchor="middle">best of the others</text>',
    ]
    size = f'width="{LABELS + BARS + 60}" height="{bottom + 10}"'
    style = 'font-family="system-ui, sans-serif" font-size="12" fill="#111"'
    background = '<rect width="100%" height="100%" fill="#fff"/>'
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{background}\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
