"""Import rules of control flow: loops of a known length are unrolled, both branches of an If computed and chosen."""

from __future__ import annotations

import numpy as np

from convc.onnx.importers.call import Call, Many, Rejected, Rule, ValueNeeded
from convc.ops.broadcasting import And, Where
from convc.ops.shape import Concat

LONGEST = 4096


def if_(c: Call) -> tuple[object, ...]:
    """One branch where the condition is known, else both, which must have the same types."""
    if c.importer.known(c[0]):
        taken = bool(c.array(0).reshape(()))
        return tuple(c.importer.subgraph(c.attr("then_branch" if taken else "else_branch"), []))
    yes = c.importer.subgraph(c.attr("then_branch"), [])
    no = c.importer.subgraph(c.attr("else_branch"), [])
    condition = c.reshape(c[0], ())
    return tuple(either(c, condition, a, b) for a, b in zip(yes, no, strict=True))


def either(c: Call, condition: str, a: object, b: object) -> object:
    """One of two values of one type, or of two sequences whose tensors have the same types."""
    if isinstance(a, Many) and isinstance(b, Many) and len(a.values) == len(b.values):
        pairs = zip(a.values, b.values, strict=True)
        return Many(tuple(str(either(c, condition, x, y)) for x, y in pairs))
    if isinstance(a, str) and isinstance(b, str) and c.type(a) == c.type(b):
        return c.add(Where(), condition, a, b)
    if c[0] in c.builder.inputs:
        raise ValueNeeded(c[0])
    raise Rejected("has branches of different types and a condition that only the run knows")


def loop(c: Call) -> tuple[object, ...]:
    """The body as often as the trip count says; a condition from the run keeps the carried values as they are."""
    count = int(c.array(0).reshape(())) if c.has(0) else None
    alive = c[1] if c.has(1) else c.constant(np.array(True))
    carried: list[object] = list(c.values[2:])
    rows: list[list[str]] = []
    t = 0
    while count is None or t < count:
        if c.importer.known(alive):
            if not bool(c.importer.evaluate(alive).reshape(())):
                break
            certain = True
        elif count is None or len(c.outputs) > len(carried):
            c.importer.evaluate(alive)  # names the input that decides the number of turns
            raise Rejected("has a number of turns that only the run knows")
        else:
            certain = False
        if t >= LONGEST:
            raise Rejected(f"has more than {LONGEST} turns")
        trip = c.constant(np.array(t, np.int64))
        again, *results = c.importer.subgraph(c.attr("body"), [trip, alive, *carried])
        new = results[: len(carried)]
        if not certain:
            new = [chosen(c, alive, a, b) for a, b in zip(new, carried, strict=True)]
            again = c.add(And(), c.reshape(alive, ()), c.reshape(again, ()))
        carried, alive = new, again
        rows.append(results[len(carried) :])
        t += 1
    scans = len(c.outputs) - len(carried)
    if scans > 0 and not rows:
        raise Rejected("collects the outputs of a loop of no turns")
    return *carried, *(stacked(c, [row[k] for row in rows], 0) for k in range(scans))


def chosen(c: Call, condition: str, a: object, b: object) -> str:
    if not isinstance(a, str) or not isinstance(b, str) or c.type(a) != c.type(b):
        c.importer.evaluate(condition)  # names the input that decides
        raise Rejected(
            "carries a value whose type changes with a condition that only the run knows"
        )
    return c.add(Where(), c.reshape(condition, ()), a, b)


def stacked(c: Call, values: list[str], axis: int) -> str:
    """Values of one shape along a new axis."""
    rank = c.rank(values[0]) + 1
    axis = c.from_front(axis, rank)
    wide = [c.reshape(v, (*c.shape(v)[:axis], 1, *c.shape(v)[axis:])) for v in values]
    return c.add(Concat(axis), *wide) if len(wide) > 1 else wide[0]


def scan(c: Call) -> tuple[object, ...]:
    """The body on each slice of the scanned inputs, with carried states. Opset 8 has a batch dimension around it."""
    if c.opset < 9:
        return scan_with_batch(c)
    inputs = int(c.attr("num_scan_inputs"))
    return scanned(c, c.rest()[: len(c) - inputs], c.rest(len(c) - inputs))


def scanned(c: Call, states: list[str], inputs: list[str]) -> tuple[object, ...]:
    count = len(inputs)
    axes = list(c.attr("scan_input_axes") or [0] * count)
    axes = [c.from_front(a, c.rank(v)) for a, v in zip(axes, inputs, strict=True)]
    backwards = list(c.attr("scan_input_directions") or [0] * count)
    lengths = {c.shape(v)[a] for v, a in zip(inputs, axes, strict=True)}
    if len(lengths) != 1 or not isinstance(length := lengths.pop(), int) or length > LONGEST:
        raise Rejected(f"needs a scan of one known length up to {LONGEST}: give --shape")
    scans = len(c.outputs) - len(states)
    out_axes = list(c.attr("scan_output_axes") or [0] * scans)
    out_backwards = list(c.attr("scan_output_directions") or [0] * scans)
    rows: list[list[str]] = []
    carried: list[object] = list(states)
    for t in range(length):
        slices = [
            c.take(v, a, length - 1 - t if back else t)
            for v, a, back in zip(inputs, axes, backwards, strict=True)
        ]
        results = c.importer.subgraph(c.attr("body"), [*carried, *slices])
        carried = results[: len(states)]
        rows.append(results[len(states) :])
    if not rows and scans:
        raise Rejected("collects the outputs of a scan of no steps")
    collected = []
    for k in range(scans):
        values = [row[k] for row in rows]
        order = list(reversed(values)) if out_backwards[k] else values
        collected.append(stacked(c, order, int(out_axes[k])))
    return *carried, *collected


def scan_with_batch(c: Call) -> tuple[object, ...]:
    """Opset 8: sequence lengths first, then everything with a batch dimension in front."""
    if c.values[0] is not None:
        raise Rejected("Scan of opset 8 with sequence lengths is not supported")
    inputs = int(c.attr("num_scan_inputs"))
    c.attributes["scan_input_directions"] = c.attr("directions")
    names = c.rest(1)
    batch = c.numbers(names[0])[0]
    results: list[list[str]] = []
    for n in range(batch):
        parts = [c.take(v, 0, n) for v in names]
        split = len(parts) - inputs
        results.append([str(r) for r in scanned(c, parts[:split], parts[split:])])
    return tuple(stacked(c, [row[k] for row in results], 0) for k in range(len(results[0])))


RULES: dict[str, Rule] = {"If": if_, "Loop": loop, "Scan": scan}
"""Conditions are of dtype bool and trip counts of int64 by their definitions."""
