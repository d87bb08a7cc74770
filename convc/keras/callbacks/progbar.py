"""The progress line, in the form of Keras 3 or the classic one of Keras 2, and plain where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from convc.errors import UsageError
from convc.keras import backend
from convc.keras.callbacks.callback import Callback, Logs

CLASSIC_WIDTH = 30
BOLD, GREEN, WHITE, PLAIN = "\x1b[1m", "\x1b[32m", "\x1b[37m", "\x1b[0m"


class Progbar:
    """One line that follows a loop of `target` units (None where their number isn't known).

    `update(current, values)` shows (name, number) pairs: averages over the units, or the latest numbers for the names
    in `stateful_metrics`. Verbose 1 draws the line again and again, at most each `interval` seconds; on what isn't a
    terminal only its end. Verbose 2 writes the end alone, without a bar.
    """

    def __init__(
        self,
        target: int | None,
        width: int = 20,
        verbose: int = 1,
        interval: float = 0.05,
        stateful_metrics: Iterable[str] | None = None,
        unit_name: str = "step",
    ) -> None:
        if verbose not in (0, 1, 2):
            raise UsageError(f"Progbar: verbose must be 0, 1 or 2; received {verbose!r}")
        self.target, self.width, self.verbose = target, width, verbose
        self.interval, self.unit_name = interval, unit_name
        self.stateful_metrics = set(stateful_metrics or ())
        self.dynamic = bool(getattr(sys.stdout, "isatty", lambda: False)())
        self._sums: dict[str, tuple[float, float]] = {}
        self._seen = 0
        self._start = time.perf_counter()
        self._first: float | None = None
        self._latest = 0.0
        self._shown = 0

    def due(self) -> bool:
        """Whether an update now would be shown, or is needed to measure the time of a unit."""
        if self._first is None:
            return True
        now = time.perf_counter()
        return self.verbose == 1 and self.dynamic and now - self._latest >= self.interval

    def update(
        self,
        current: int,
        values: Sequence[tuple[str, Any]] | None = None,
        finalize: bool | None = None,
    ) -> None:
        """Takes the loop to the unit `current`; `finalize` ends the line (the default at the target)."""
        if finalize is None:
            finalize = self.target is not None and current >= self.target
        for name, value in values or ():
            self._add(name, float(np.mean(value)), current, finalize)
        self._seen = current
        now = time.perf_counter()
        duration = self._unit_duration(current, now)
        shown = self.verbose == 1 and (finalize or self.dynamic)
        if shown and (finalize or now - self._latest >= self.interval):
            self._draw(current, finalize, now - self._start, duration)
        elif self.verbose == 2 and finalize:
            write(f"{self._summary(current, now - self._start, duration)}\n")
        else:
            return
        self._latest = now

    def add(self, n: int, values: Sequence[tuple[str, Any]] | None = None) -> None:
        """Takes the loop `n` units further."""
        self.update(self._seen + n, values)

    def _add(self, name: str, value: float, current: int, final: bool) -> None:
        units = max(current - self._seen, 1)
        if name in self.stateful_metrics or final:
            self._sums[name] = value, 1.0
        else:
            total, count = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = total + value * units, count + units

    def _unit_duration(self, current: int, now: float) -> float:
        """Seconds per unit; the first, which compiles, only counts while it is alone."""
        if not current:
            return 0.0
        alone = self._first is None or current == 1
        found = (
            (now - self._start) / current if alone else (now - (self._first or 0.0)) / (current - 1)
        )
        if current == 1 or self._first is None:
            self._first = now
        return found

    def _draw(self, current: int, final: bool, elapsed: float, duration: float) -> None:
        classic = backend.progress_style() == "classic"
        line = self._classic if classic else self._line
        text, width = line(current, final, elapsed, duration)
        if self.dynamic:
            text = "\b" * self._shown + "\r" + text + " " * max(0, self._shown - width)
        write(text + ("\n" if final else ""))
        self._shown = width

    def _line(self, current: int, final: bool, elapsed: float, duration: float) -> tuple[str, int]:
        """The line of Keras 3, and its width on the screen."""
        when = (
            f"{elapsed:.0f}s"
            if final or not self.target
            else clock(duration * (self.target - current))
        )
        tail = f"{per_unit(duration, self.unit_name)}{self._results()}"
        if not self.target:
            count, bar = f"{current:7d}/Unknown", ("", "")
        else:
            done = int(self.width * current / self.target)
            count = f"{current:{len(str(self.target))}d}/{self.target}"
            bar = "━" * done, "━" * (self.width - done)
        space = " " if self.target else ""
        plain = f"{count}{space}{bar[0]}{bar[1]} {when}{tail}"
        if not self.dynamic:
            return plain, len(plain)
        if not self.target:
            return f"{count} {BOLD}{when}{PLAIN}{tail}", len(plain)
        filled = f"{GREEN}{bar[0]}{PLAIN}" if bar[0] else ""
        rest = f"{WHITE}{bar[1]}{PLAIN}"
        return f"{BOLD}{count}{PLAIN} {filled}{rest} {BOLD}{when}{PLAIN}{tail}", len(plain)

    def _classic(
        self, current: int, final: bool, elapsed: float, duration: float
    ) -> tuple[str, int]:
        """The line of Keras 2, and its width."""
        if not self.target:
            text = f"{current:7d}/Unknown"
        else:
            done = int(CLASSIC_WIDTH * current / self.target)
            head = "=" if current >= self.target else ">"
            bar = "=" * (done - 1) + head if done else ""
            count = f"{current:{len(str(self.target))}d}/{self.target}"
            text = f"{count} [{bar:.<{CLASSIC_WIDTH}}]"
        if final or not self.target:
            text += f" - {elapsed:.0f}s{per_unit(duration, self.unit_name)}"
        else:
            text += f" - ETA: {clock(duration * (self.target - current))}"
        text += self._results()
        return text, len(text)

    def _summary(self, current: int, elapsed: float, duration: float) -> str:
        """The line of verbose 2."""
        target = self.target or current
        count = f"{current:{len(str(target))}d}/{target} - {elapsed:.0f}s"
        if backend.progress_style() == "classic":
            epoch = f" - {elapsed:.0f}s/epoch -{per_unit(duration, self.unit_name)}"
            return f"{count}{self._results()}{epoch}"
        return f"{count} -{per_unit(duration, self.unit_name)}{self._results()}"

    def _results(self) -> str:
        return "".join(
            f" - {name}: {number(total / max(1.0, count))}"
            for name, (total, count) in self._sums.items()
        )


def number(value: float) -> str:
    """Four decimals, or four digits of what is close to 0."""
    return f"{value:.4f}" if abs(value) > 1e-3 else f"{value:.4e}"


def per_unit(seconds: float, unit: str) -> str:
    """` 23ms/step`."""
    if seconds >= 1 or seconds == 0:
        return f" {seconds:.0f}s/{unit}"
    if seconds >= 1e-3:
        return f" {seconds * 1e3:.0f}ms/{unit}"
    return f" {seconds * 1e6:.0f}us/{unit}"


def clock(seconds: float) -> str:
    """A time to wait as `1:02:03`, `2:03` or `3s`."""
    whole = int(seconds)
    if whole > 3600:
        return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"
    if whole > 60:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole}s"


def write(text: str) -> None:
    """Prints at once, also where the output's encoding has no such bar."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.replace("━", "=").encode(encoding, "replace").decode(encoding)
    sys.stdout.write(text)
    sys.stdout.flush()


class ProgbarLogger(Callback):
    """Prints a progress line per epoch; `fit`, `evaluate` and `predict` have one unless verbose is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.target: int | None = None
        self.verbose, self.epochs, self.seen = 1, 1, 0
        self.progbar: Progbar | None = None
        self.in_fit = False

    def set_params(self, params: dict[str, Any]) -> None:
        self.params = params
        verbose = params.get("verbose", 1)
        self.verbose = 1 if verbose == "auto" else int(verbose)
        self.epochs, self.target = params.get("epochs", 1), params.get("steps")

    def due(self) -> bool:
        """Whether the next update needs the results so far."""
        return self.progbar is None or self.progbar.due()

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.in_fit = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        self.in_fit = False

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        self._start()
        if self.verbose and self.epochs > 1:
            write(f"Epoch {epoch + 1}/{self.epochs}\n")

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._update(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self._finish(logs)

    def on_test_begin(self, logs: Logs | None = None) -> None:
        if not self.in_fit:
            self._start()

    def on_test_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        if not self.in_fit:
            self._update(batch, logs)

    def on_test_end(self, logs: Logs | None = None) -> None:
        if not self.in_fit:
            self._finish(logs)

    def on_predict_begin(self, logs: Logs | None = None) -> None:
        self._start()

    def on_predict_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        self._update(batch, None)

    def on_predict_end(self, logs: Logs | None = None) -> None:
        self._finish(None)

    def _start(self) -> None:
        self.seen = 0
        self.progbar = Progbar(self.target, verbose=self.verbose)

    def _update(self, batch: int, logs: Logs | None) -> None:
        if self.progbar is None:
            self._start()
        assert self.progbar is not None
        self.seen = batch + 1
        self.progbar.stateful_metrics.update(logs or {})
        self.progbar.update(self.seen, self._ordered(logs), finalize=False)

    def _finish(self, logs: Logs | None) -> None:
        assert self.progbar is not None, "a phase has begun"
        if self.target is None:
            self.target = self.progbar.target = self.seen
        self.progbar.update(self.target, self._ordered(logs), finalize=True)

    def _ordered(self, logs: Logs | None) -> list[tuple[str, Any]]:
        """Numbers by name; the classic line has the loss first."""
        items = [(name, value) for name, value in (logs or {}).items() if np.size(value) == 1]
        if backend.progress_style() == "classic":
            order = {name: i for i, name in enumerate(getattr(self.model, "metrics_names", ()))}
            items.sort(
                key=lambda item: (
                    item[0].startswith("val_"),
                    order.get(item[0].removeprefix("val_"), len(order)),
                )
            )
        return items
