"""How the interpreter runs the threads of a block: side by side between the points where they meet."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from convc.errors import IRError
from convc.loops.intrinsics import WARP, AsyncCopies, Effect, IntrinsicInfo
from convc.loops.scalars import to_list
from convc.types import DType

Request = tuple[str, Any, Any]
Body = Generator[Request, None, None]
# A window at run time: the buffer's values, its index-to-place function, the window's first index.
Place = tuple[list[Any], Callable[..., int], tuple[int, ...]]
# An instruction of the kernel: its row, each window's sizes and dtype, and its text.
Instruction = tuple[IntrinsicInfo, list[tuple[tuple[int, ...], DType]], str]
AXES = ("thread_x", "thread_y", "thread_z")


@dataclass
class _Thread:
    body: Body
    place: dict[str, tuple[int, int]]  # per axis: its coordinate and the axis' extent
    parent: _Thread | None = None
    children: int = 0
    waiting: Request | None = None
    copies: AsyncCopies = field(default_factory=AsyncCopies)

    @property
    def rank(self) -> int:
        """The thread's number in its block: x runs fastest."""
        number, step = 0, 1
        for axis in AXES:
            coordinate, extent = self.place.get(axis, (0, 1))
            number += coordinate * step
            step *= extent
        return number


class Machine:
    """Executes special instructions and the threads of one block at a time."""

    def __init__(self, seed: int | None) -> None:
        self.seed = seed
        self.start()

    def start(self) -> None:
        """Forgets everything in flight: a kernel begins."""
        self.random = random.Random(self.seed) if self.seed is not None else None
        self.copies = AsyncCopies()

    def execute(self, instruction: Instruction, windows: list[Place]) -> None:
        """An instruction outside of threads that meet."""
        _execute(instruction, [windows], [self.copies])

    def run(self, axis: str, bodies: Sequence[Body]) -> None:
        """Runs threads until all are done; IRError where they can't all meet."""
        ready = [_Thread(b, {axis: (i, len(bodies))}) for i, b in enumerate(bodies)]
        waiting: list[_Thread] = []
        finished = 0
        while ready or waiting:
            if not ready:
                ready, waiting = _release(waiting, finished)
            if self.random is not None:
                self.random.shuffle(ready)
            thread = ready.pop()
            more, done = self.advance(thread)
            ready += more
            finished += done
            if thread.waiting is not None:
                waiting.append(thread)

    def advance(self, thread: _Thread) -> tuple[list[_Thread], int]:
        """Runs a thread to its next meeting point: the threads that became ready, and how many ended."""
        for kind, what, detail in thread.body:
            if kind == "spawn":
                count = thread.children = len(detail)
                children = [
                    _Thread(b, {**thread.place, what: (i, count)}, thread)
                    for i, b in enumerate(detail)
                ]
                if children:
                    return children, 0
            elif kind == "do" and not what[0].collective:
                _execute(what, [detail], [thread.copies])
            else:
                thread.waiting = (kind, what, detail)
                return [], 0
        parent = thread.parent
        if parent is None:
            return [], 1
        parent.children -= 1
        return ([parent] if parent.children == 0 else []), 1


def _release(waiting: list[_Thread], finished: int) -> tuple[list[_Thread], list[_Thread]]:
    """The threads that go on, now that every one waits, and those that still wait."""
    requests = [t.waiting for t in waiting if t.waiting is not None]
    if all(r[:2] == ("barrier", "block") for r in requests):
        if finished:
            raise IRError(f"barrier: {len(waiting)} threads wait, {finished} have ended")
        for thread in waiting:
            thread.waiting = None
        return waiting, []
    groups: dict[tuple[int, int], list[_Thread]] = {}
    for thread in waiting:
        lanes = _lanes(thread)
        if lanes:
            groups.setdefault((lanes, thread.rank // lanes), []).append(thread)
    released = [t for (lanes, _), group in groups.items() if _meet(lanes, group) for t in group]
    if not released:
        shown = sorted({_describe(r) for r in requests})
        raise IRError(f"threads wait for one another in different places: {'; '.join(shown)}")
    return released, [t for t in waiting if t.waiting is not None]


def _lanes(thread: _Thread) -> int:
    """How many neighbouring threads meet where this one waits; 0 if the whole block does."""
    if thread.waiting is None:
        return 0
    kind, what, _ = thread.waiting
    if kind == "do":
        info: IntrinsicInfo = what[0]
        return info.lanes
    return WARP if what == "warp" else 0


def _meet(lanes: int, group: list[_Thread]) -> bool:
    """Lets a warp's threads go on, if all of them have come to the same place."""
    requests = [t.waiting for t in group if t.waiting is not None]
    kind, what, _ = requests[0]
    same = all(r[0] == kind and r[1] is what for r in requests)
    if kind == "do" and (len(group) != lanes or not same):
        return False
    if not same:
        return False
    if kind == "do":
        group = sorted(group, key=lambda t: t.rank)
        _execute(what, [t.waiting[2] for t in group if t.waiting], [t.copies for t in group])
    for thread in group:
        thread.waiting = None
    return True


def _describe(request: Request) -> str:
    kind, what, _ = request
    return f"barrier({what})" if kind == "barrier" else str(what[2])


def _execute(instruction: Instruction, lanes: list[list[Place]], copies: list[AsyncCopies]) -> None:
    """One special instruction for all its lanes; `lanes` has each one's windows."""
    info, kinds, _ = instruction
    if info.effect is Effect.commit:
        copies[0].commit()
    if info.effect is Effect.wait:
        copies[0].wait(info.pending)
    places = [[_places(w, sizes) for w, (sizes, _) in zip(ws, kinds, strict=True)] for ws in lanes]
    arrays = []
    for i, (_, dtype) in enumerate(kinds):
        rows = [[ws[i][0][p] for p in at[i]] for ws, at in zip(lanes, places, strict=True)]
        array = np.array(rows, dtype.numpy)
        arrays.append(array if info.collective else array[0])
    results = info.interpret(*arrays)
    for position, result in zip(info.written, results, strict=True):
        by_lane = np.asarray(result).reshape(len(lanes), -1)
        for ws, at, row, flight in zip(lanes, places, by_lane, copies, strict=True):
            write = _writer(ws[position][0], at[position], to_list(row, kinds[position][1]))
            if info.effect is Effect.copy:
                flight.issue(write)
            else:
                write()


def _writer(values: list[Any], places: list[int], new: list[Any]) -> Callable[[], None]:
    def write() -> None:
        for place, value in zip(places, new, strict=True):
            values[place] = value

    return write


def _places(window: Place, sizes: tuple[int, ...]) -> list[int]:
    """The places in memory of a window's elements, its last index fastest."""
    _, place, first = window
    steps = product(*(range(size) for size in sizes))
    return [place(*(i + s for i, s in zip(first, step, strict=True))) for step in steps]
