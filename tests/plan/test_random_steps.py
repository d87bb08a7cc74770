"""Random training steps, with state, planned in other orders and with second calls: the same bits, step after step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from convc.graph.ir import Graph
from convc.lower.program import lower
from convc.ops.differentiation import add_gradients
from convc.ops.norm import BatchNormTraining
from convc.ops.values import Value
from convc.passes.gradient import with_outputs
from convc.passes.pipelines import PIPELINES
from convc.plan.in_place import reuse_in_place, states_in_place
from convc.plan.memory import plan_memory
from convc.plan.recompute import recompute
from convc.plan.reorder import shorten_lifetimes
from convc.program.interp import run_program
from convc.program.ir import Program
from convc.program.verify import verify_program
from convc.schedule.program import schedule
from convc.target import TARGETS
from convc.types import DType, TensorType
from tests.passes.random_graphs import RandomGraph

TARGET = TARGETS["x86-64-avx2"]
SEEDS = range(20)
ROWS = 2


class RandomStep(RandomGraph):
    """A random network whose weights are state, as are averages that values read; `first` has all of it."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.first: dict[str, Any] = {}
        self.trained: list[str] = []
        self.following: dict[str, Value] = {}

    def state(self, array: Any) -> str:
        name = f"state{len(self.first)}"
        self.first[name] = array
        return self.b.input(name, TensorType(DType.of(array.dtype), array.shape))

    def weight(self, *shape: int, positive: bool = False) -> str:
        array = (self.rng.standard_normal(shape) * 0.5).astype(np.float32)
        if positive or self.rng.random() < 0.2:
            return self.b.weight("w", np.abs(array) + np.float32(0.5))
        self.trained.append(self.state(array))
        return self.trained[-1]

    def norm(self, x: str) -> str:
        """Batch normalization as in training: moving statistics follow the batch's."""
        axis = int(self.rng.choice([1, 3]))
        count = self.shape(x)[axis - 1]
        gamma, beta = self.weight(count), self.weight(count)
        y, *statistics = self.b.add_all(BatchNormTraining(axis), x, gamma, beta)
        for found in statistics:
            self.averaged(Value(self.b, found))
        return y

    def averaged(self, value: Value) -> Value:
        """The average that steps so far have kept of a value, which then follows it."""
        shape: Any = value.shape
        old = Value(self.b, self.state(np.ones(shape, np.float32)))
        self.following[old.name] = old * 0.75 + value * 0.25
        return old

    def both(self, x: str) -> str:
        """Something scaled by its average in earlier steps, or a step of the base's."""
        if self.rng.random() < 0.5:
            return super().both(x)
        value = Value(self.b, x)
        return (value * self.averaged(value.mean(tuple(range(value.rank))))).name

    def stepped(self, steps: int) -> Graph:
        """The network, its gradients, and the next values: descent with momentum, now and then by both of its slots."""
        for _ in range(steps):
            self.step()
        last = Value(self.b, self.finish(self.values[-1]))
        loss = (last * last).mean(tuple(range(last.rank)))
        gradients = add_gradients(self.b, loss.name, self.trained)
        for name, found in zip(self.trained, gradients, strict=True):
            old, slot = (
                Value(self.b, name),
                Value(self.b, self.state(np.zeros_like(self.first[name]))),
            )
            slope = Value(self.b, found)
            slope = slope / (slope * slope + 1.0).sqrt()  # no step leaves what floats hold
            self.following[slot.name] = slot * 0.9 + slope
            used = slot if self.rng.random() < 0.3 else self.following[slot.name]
            self.following[name] = old - used * 0.1
        next_values = {f"next/{name}": value.name for name, value in self.following.items()}
        return with_outputs(self.b, {"loss": loss.name, **next_values})


@functools.cache
def grown(seed: int) -> tuple[Program, Mapping[str, Any], tuple[int, ...]]:
    """A scheduled step, its first state and the shape of its input."""
    random = RandomStep(seed)
    graph = PIPELINES["training"].run(random.stepped(3 + seed % 7))
    (shape,) = (graph.types[n].shape for n in graph.inputs if n == "x")
    sizes = tuple(e if isinstance(e, int) else ROWS for e in shape)
    return schedule(lower({"step": graph}, in_place=True), TARGET), random.first, sizes


@pytest.fixture(autouse=True)
def at_any_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small values count, any saving is worth it, and an order is taken whatever it saves."""
    for name, value in (
        ("reorder._LEAST", 1), ("reorder._WORTH", 0.0), ("reorder._ENOUGH", 1e9),
        ("recompute._SHARE", 1.0), ("recompute._WORTH", 0.0),
    ):  # fmt: skip
        monkeypatch.setattr(f"convc.plan.{name}", value)


WAYS: dict[str, Callable[[Program], Program]] = {
    "reordered": lambda p: shorten_lifetimes(states_in_place(p)),
    "recomputed": lambda p: recompute(states_in_place(p)),
    "planned": lambda p: plan_memory(
        reuse_in_place(shorten_lifetimes(recompute(states_in_place(p))))
    ),
}


@pytest.mark.parametrize("seed", SEEDS)
def test_every_step_has_the_same_bits(seed: int) -> None:
    plain, first, shape = grown(seed)
    rng = np.random.default_rng(seed)
    states = {name: dict(first) for name in ("plain", *WAYS)}
    programs = {"plain": plain} | {name: way(plain) for name, way in WAYS.items()}
    for _ in range(2):
        x = rng.normal(size=shape).astype("f4")
        found = {
            name: run_program(program, {"x": x, **states[name]}, {"N": ROWS}, "step")
            for name, program in programs.items()
        }
        for name, results in found.items():
            assert results.keys() == found["plain"].keys()
            for value, array in results.items():
                np.testing.assert_array_equal(found["plain"][value], array, f"{name}: {value}")
            states[name] = {n: results.get(n, first[n]) for n in first}


def test_the_passes_have_changed_something() -> None:
    """In many of the steps, so that the test above means something."""
    orders = second = 0
    for seed in SEEDS:
        plain, _, _ = grown(seed)
        made = {name: way(plain) for name, way in WAYS.items()}
        for program in made.values():
            verify_program(program)
        before = states_in_place(plain).entries[0].steps
        orders += made["reordered"].entries[0].steps != before
        second += any(r.name.endswith(".again") for r in made["recomputed"].regions)
    assert orders > len(SEEDS) // 2
    assert second > len(SEEDS) // 4
