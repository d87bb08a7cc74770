"""The objects of a program's units, each begun as soon as there is its unit: out of the cache, or by LLVM.

A kernel's code follows from the scheduled kernel alone, so that LLVM has it, on another core, while the next one is
being scheduled (ADR 0026).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType

from convc.codegen import llvmc
from convc.codegen.cache import Cache, generator_fingerprint, key_of
from convc.codegen.llvm import Unit, Units
from convc.codegen.pool import Pool
from convc.target import Target

Phase = Callable[[str], AbstractContextManager[None]]
"""Measures the time of a block under a name: "cache", "generate" or "machine code"."""


class Objects:
    """Objects by the keys of their units. A context manager: no process of LLVM's outlives it."""

    def __init__(self, target: Target, cache: Cache, phase: Phase) -> None:
        self.target = target
        self.cache = cache
        self.phase = phase
        self.fingerprint = (
            f"{target!r} llvmlite {llvmc.package_version()} {generator_fingerprint()}"
        )
        self.found: dict[str, bytes] = {}
        self.missing: dict[str, int] = {}
        """The places in the pool of those that weren't in the cache."""
        self.pool: Pool | None = None
        self._units: dict[str, Units] = {}

    def units(self, prefix: str) -> Units:
        """The units of a program whose functions start with a prefix."""
        if prefix not in self._units:
            self._units[prefix] = Units(self.target, prefix)
        return self._units[prefix]

    def __enter__(self) -> Objects:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.pool is not None:
            self.pool.__exit__(kind, error, trace)
            self.pool = None

    def foresee(self, modules: int) -> None:
        """Starts processes for about so many modules before there is the first, if none can be in the cache."""
        if self.pool is None and modules and self.cache.is_empty():
            with self.phase("machine code"):
                self.pool = Pool(self.target, modules, folder=self.cache.folder)

    def begin(self, unit: Unit, following: int = 0) -> str:
        """Takes a unit, and gives the key of its object. So many are `following`: if about as many of them are missing
        in the cache as until now, it may be worth to start processes for them.

        IRError if LLVM has refused an earlier one.
        """
        with self.phase("cache"):
            key = key_of(unit.identity, self.fingerprint)
            if key in self.found or key in self.missing:
                return key
            code = self.cache.get(key)
        if code is not None:
            self.found[key] = code
            return key
        with self.phase("machine code"):
            self.missing[key] = len(self.missing)
            missing, known = len(self.missing), len(self.missing) + len(self.found)
            expected = missing + following * missing // known
            if self.pool is None:
                self.pool = Pool(self.target, expected, folder=self.cache.folder)
            self.pool.expect(expected)
        with self.phase("generate"):
            text = unit.identity if unit.short and self.pool.workers else unit.text()
        with self.phase("machine code"):
            self.pool.add(self.missing[key], unit.name, text, key, unit.baseline)
        return key

    def of(self, units: Iterable[Unit]) -> list[bytes]:
        """The object of each unit."""
        units = list(units)
        keys = [self.begin(u, len(units) - i - 1) for i, u in enumerate(units)]
        if self.pool is not None:
            with self.phase("machine code"):
                made = self.pool.finish()
            self.found |= {key: made[place] for key, place in self.missing.items()}
            with self.phase("cache"):
                for key, place in self.missing.items():
                    if place in self.pool.here:
                        self.cache.put(key, made[place])
        return [self.found[key] for key in keys]
