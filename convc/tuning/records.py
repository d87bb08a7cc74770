"""What tuning found, in a portable file: JSON keyed by CPU model, target and kernel.

    file   = {"format": FORMAT, "records": [record, …]}
    record = {"cpu", "target", "kind": "kernel" | "convolution", "key", "what", "choice",
              "default_seconds", "seconds"}
    choice = {"tile": [rows, vectors] | null, "order"}         of a kernel: schedule/choices.py, keyed by `kernel_key`
           | {"tile": [rows, columns] | null, "strip": bytes | null}   of a convolution: passes/choose_algorithm.py

A record says that a choice was the fastest on a CPU; "what" is for people. Records of other CPUs stay in the file.
"""

from __future__ import annotations

import functools
import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from convc_runtime.errors import WriteError
from convc_runtime.writing import write_whole

from convc.errors import InputFileError, OutputError, UsageError
from convc.passes.choose_algorithm import Algorithm, Algorithms
from convc.schedule.choices import ORDERS, Choice
from convc.target import Target

FORMAT = "convc tuning records 1"


@dataclass(frozen=True)
class Selected:
    """The choices of one compilation, as part of what it follows from."""

    kernels: tuple[tuple[str, Choice], ...] = ()
    convolutions: Algorithms = ()

    def __bool__(self) -> bool:
        return bool(self.kernels or self.convolutions)

    def with_kernel(self, key: str, choice: Choice) -> Selected:
        """The same and one more kernel's choice."""
        return replace(self, kernels=tuple(sorted((dict(self.kernels) | {key: choice}).items())))

    def with_convolution(self, key: str, algorithm: Algorithm) -> Selected:
        """The same and one more convolution's algorithm."""
        known = dict(self.convolutions) | {key: algorithm}
        return replace(self, convolutions=tuple(sorted(known.items())))


@dataclass(frozen=True)
class Record:
    """The choice for one kernel or convolution on one CPU, and the seconds of one call without and with it."""

    cpu: str
    target: str
    key: str
    what: str
    choice: Choice | Algorithm
    default_seconds: float
    seconds: float

    @property
    def kind(self) -> str:
        return "kernel" if isinstance(self.choice, Choice) else "convolution"

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What a file has one record for."""
        return self.cpu, self.target, self.kind, self.key


@dataclass
class Records:
    """The records of a file; `warning` says in one line why there are none of a file that is damaged."""

    path: Path | None = None
    found: dict[tuple[str, str, str, str], Record] = field(default_factory=dict)
    warning: str = ""

    def selected(self, cpu: str, target: Target) -> Selected:
        """The choices for a CPU and a target."""
        mine = [r for r in self.found.values() if (r.cpu, r.target) == (cpu, target.name)]
        kernels = {r.key: r.choice for r in mine if isinstance(r.choice, Choice)}
        convolutions = {r.key: r.choice for r in mine if isinstance(r.choice, Algorithm)}
        return Selected(tuple(sorted(kernels.items())), tuple(sorted(convolutions.items())))

    def add(self, records: Iterable[Record]) -> None:
        """Takes records in, each in the place of an older one."""
        self.found.update({record.place: record for record in records})

    def write(self) -> None:
        """Writes the file, whole or not at all; what others have put there meanwhile stays.

        OutputError where it can't be written.
        """
        if self.path is None:
            return
        self.found = read_records(self.path).found | self.found
        data = {"format": FORMAT, "records": [to_json(r) for _, r in sorted(self.found.items())]}
        text = json.dumps(data, indent=1) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, text.encode())
        except (OSError, WriteError) as error:
            raise OutputError(f"{self.path}: can't write the tuning records: {error}") from None


def read_records(path: Path | None, strict: bool = False) -> Records:
    """The records of a file; none where there is no file.

    A damaged file counts as empty and `warning` says so; with `strict` it is a UsageError.
    """
    if path is None:
        return Records()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ValueError(f"expected the format {FORMAT!r}")
        records = [from_json(record) for record in data["records"]]
    except FileNotFoundError:
        return Records(path)
    except OSError as error:
        if strict:
            raise InputFileError(
                f"{path}: {error.strerror or error} (expected tuning records)"
            ) from None
        return Records(path, warning=f"{path}: {error.strerror or error}; ignored")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        problem = f"{path}: no tuning records of convc ({reason})"
        if strict:
            raise UsageError(problem) from None
        return Records(path, warning=f"{problem}; ignored")
    return Records(path, {record.place: record for record in records})


def to_json(record: Record) -> dict[str, Any]:
    """A record as plain values."""
    return {"kind": record.kind} | asdict(record)


def from_json(data: dict[str, Any]) -> Record:
    """The inverse; ValueError, KeyError or TypeError for what is no record."""
    cpu, target, key, what = (_text(data[name]) for name in ("cpu", "target", "key", "what"))
    before, after = (float(data[name]) for name in ("default_seconds", "seconds"))
    choice = data["choice"]
    chosen: Choice | Algorithm
    tile = None if choice["tile"] is None else _pair(choice["tile"])
    match data["kind"]:
        case "kernel":
            if choice["order"] not in ORDERS:
                raise ValueError(f"order: expected one of {ORDERS}, got {choice['order']!r}")
            chosen = Choice(tile, choice["order"])
        case "convolution":
            strip = None if choice["strip"] is None else _count(choice["strip"])
            chosen = Algorithm(tile, strip)
        case kind:
            raise ValueError(f"kind: expected kernel or convolution, got {kind!r}")
    return Record(cpu, target, key, what, chosen, before, after)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, got {value!r}")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a number from 0, got {value!r}")
    return value


def _pair(value: object) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"tile: expected two numbers, got {value!r}")
    a, b = map(_count, value)
    return a, b


@functools.cache
def cpu_model() -> str:
    """This machine's CPU as its kernel calls it, such as "AMD EPYC 9R14"."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    facts: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if not colon and facts:
            break
        facts.setdefault(name.strip(), value.strip())
    parts = [facts.get(n, "") for n in ("CPU implementer", "CPU part")]  # of AArch64
    return facts.get("model name") or " ".join(filter(None, parts)) or platform.machine()
