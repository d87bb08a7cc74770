"""A loaded model: native code, weights and contexts, called with arrays."""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from ctypes import addressof
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convc_runtime import cpu
from convc_runtime.arrays import address, bind, converted, first_byte, numpy_dtype
from convc_runtime.description import Description, EntryInfo, TensorInfo, evaluate
from convc_runtime.errors import ArtifactError, CpuError, InputError
from convc_runtime.format import Contents, fingerprint, read_contents
from convc_runtime.memory import Mapping as Memory
from convc_runtime.memory import aligned, map_code, map_file, zeroed
from convc_runtime.pool import Pool
from convc_runtime.state import State

_CHECK = ctypes.CFUNCTYPE(ctypes.c_uint64)
_INVOKE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)
_REQUIREMENT = 256  # CONVC_ERROR_REQUIREMENT of convc.h
MOST_THREADS = 1024  # each is one of the system's, and the pool knows as many CPUs


class Call(ctypes.Structure):
    """`convc_call` of convc.h: the argument of an entry function."""

    _fields_ = (
        ("size", ctypes.c_uint64),
        ("weights", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p),
        ("inputs", ctypes.c_void_p),
        ("outputs", ctypes.c_void_p),
        ("symbols", ctypes.c_void_p),
        ("parallel_for", ctypes.c_void_p),
        ("pool", ctypes.c_void_p),
        ("state", ctypes.c_void_p),
    )


class _Arguments:
    """What one running call owns: its argument block and its workspace."""

    def __init__(self, entry: EntryInfo, symbols: int, weights: int, state: int) -> None:
        self.inputs = (ctypes.c_void_p * max(1, len(entry.inputs)))()
        self.outputs = (ctypes.c_void_p * max(1, len(entry.outputs)))()
        self.symbols = (ctypes.c_int64 * max(1, symbols))()
        self.workspace = aligned(0)
        self.key: object = None
        self.call = Call(
            size=ctypes.sizeof(Call),
            weights=weights,
            inputs=ctypes.addressof(self.inputs),
            outputs=ctypes.addressof(self.outputs),
            symbols=ctypes.addressof(self.symbols),
            state=state,
        )
        self.address = ctypes.addressof(self.call)


class _Native:
    """What the entries of a model share: code, weights and the thread pool."""

    def __init__(
        self,
        description: Description,
        code: Memory,
        symbols: Mapping[str, int],
        weights: Memory | np.ndarray,
        threads: int,
    ) -> None:
        self.description = description
        self.threads = threads
        self._code, self._symbols, self._weights = code, symbols, weights
        self.weights_address = (
            weights.address if isinstance(weights, Memory) else int(weights.ctypes.data)
        )
        _require_cpu(description, _CHECK(self.address(f"{description.identifier}_check")))
        self.invoke = _INVOKE(self.address(f"{description.identifier}_invoke"))
        self._pool: Pool | None = None
        self._lock = threading.Lock()

    @property
    def weights(self) -> np.ndarray:
        """The weights' bytes."""
        return self._weights.array if isinstance(self._weights, Memory) else self._weights

    def address(self, symbol: str) -> int:
        if symbol not in self._symbols:
            raise ArtifactError(
                f"model {self.description.name}: its code has no function {symbol}, which this version calls: "
                f"compile it again"
            )
        return self._code.address + self._symbols[symbol]

    def parallel(self) -> Pool | None:
        """The pool for the next call, started if this process has none yet; None for one thread."""
        if self.threads == 1:
            return None
        pool = self._pool
        if pool is None or pool.threads == 0:
            with self._lock:
                if self._pool is None or self._pool.threads == 0:
                    identifier = self.description.identifier
                    self._pool = Pool(self._code, self._symbols, identifier, self.threads)
                pool = self._pool
        return pool

    def close(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()


class _Plan(NamedTuple):
    """What follows from the shapes of the inputs. `simple`: one input, one output, and elements to compute."""

    shapes: list[tuple[int, ...]]
    symbols: tuple[int, ...]
    outputs: tuple[tuple[int, ...], ...]
    workspace: int
    simple: bool


class Entry:
    """One function of a model, such as "predict". Call it with arrays; any number of threads may.

    An entry of a context works on the context's state, so that calls of which one writes it must not meet.
    """

    def __init__(self, native: _Native, info: EntryInfo, state: np.ndarray | None = None) -> None:
        self.info = info
        self._native = native
        self._state = state
        self._function = native.address(info.function)
        self._dtypes = tuple(numpy_dtype(t.dtype) for t in info.inputs)
        self._out_dtypes = tuple(numpy_dtype(t.dtype) for t in info.outputs)
        self._names = tuple(t.name for t in info.inputs)
        # Arguments that no call uses right now; taking from a list and giving back is atomic.
        self._idle: list[_Arguments] = []
        self._last: _Plan | None = None

    def __call__(self, *arrays: Any, out: Any = None) -> Any:
        """Run on one array per input, or on one dict by input name.

        Returns the output array, or a list of them where the model has several. `out` takes C-contiguous arrays of
        the outputs' types to write into, and is returned. InputError if arrays don't fit.
        """
        if out is None and len(arrays) == 1:
            result = self._again(arrays[0])
            if result is not None:
                return result
        values = [
            a
            if type(a) is np.ndarray and a.dtype is d and a.flags.c_contiguous
            else converted(t, a, d)
            for a, d, t in zip(self._ordered(arrays), self._dtypes, self.info.inputs, strict=True)
        ]
        key = [v.shape for v in values]
        plan = self._last
        if plan is None or plan.shapes != key:
            plan = self._last = self._plan(key)
        outputs = self._outputs(plan.outputs, out)
        if 0 not in plan.symbols:
            self._run(values, outputs, plan.symbols, plan.workspace)
        else:
            self._require_empty(outputs)
        if out is not None:
            return out
        return outputs[0] if len(outputs) == 1 else outputs

    def _again(self, value: Any) -> np.ndarray | None:
        """The output for an array just like the last call's: a small network takes no longer than ten such calls do.

        None where anything is different: the long way does it, or says what is wrong.
        """
        plan = self._last
        if plan is None or not plan.simple or type(value) is not np.ndarray:
            return None
        if value.shape != plan.shapes[0] or value.dtype is not self._dtypes[0]:
            return None
        result = np.empty(plan.outputs[0], self._out_dtypes[0])
        try:
            # Arrays that aren't contiguous, or are read-only, refuse.
            source, target = addressof(first_byte(value)), addressof(first_byte(result))
            context = self._idle.pop()
        except (TypeError, ValueError, BufferError, IndexError):
            return None
        if context.key != plan.symbols or context.workspace.size < plan.workspace:
            self._idle.append(context)
            return None
        context.inputs[0], context.outputs[0] = source, target
        self._invoke(context)
        return result

    def workspace_size(self, **symbols: int) -> int:
        """The bytes of scratch memory that a run needs, for values of the symbols (N is the batch)."""
        return evaluate(self.info.workspace, symbols)

    def _ordered(self, arrays: Sequence[Any]) -> Sequence[Any]:
        if len(arrays) == 1 and isinstance(arrays[0], Mapping):
            return self._by_name(arrays[0])
        if len(arrays) == 1 and len(self._names) > 1 and isinstance(arrays[0], list | tuple):
            arrays = arrays[0]
        if len(arrays) != len(self._names):
            raise InputError(
                f"{self._title()}: expected {len(self._names)} inputs "
                f"({'; '.join(map(str, self.info.inputs))}), got {len(arrays)}"
            )
        return arrays

    def _by_name(self, arrays: Mapping[str, Any]) -> list[Any]:
        if set(arrays) != set(self._names):
            raise InputError(
                f"{self._title()}: expected the inputs {', '.join(self._names)}, "
                f"got {', '.join(map(str, arrays)) or 'none'}"
            )
        return [arrays[n] for n in self._names]

    def _title(self) -> str:
        return f"{self._native.description.name}.{self.info.name}"

    def _plan(self, shapes: list[tuple[int, ...]]) -> _Plan:
        order = self._native.description.symbols
        values = bind(self.info.inputs, shapes, order)
        outputs = tuple(tuple(evaluate(e, values) for e in t.shape) for t in self.info.outputs)
        for info, shape in zip(self.info.outputs, outputs, strict=True):
            if any(e < 0 for e in shape):
                raise InputError(
                    f"{self._title()}: inputs of this size are too small: output {info.name} would have shape {shape}"
                )
        workspace = evaluate(self.info.workspace, values)
        symbols = tuple(values[s] for s in order)
        simple = len(shapes) == len(outputs) == 1 and 0 not in (*symbols, *shapes[0], *outputs[0])
        return _Plan(shapes, symbols, outputs, workspace, simple)

    def _outputs(self, shapes: tuple[tuple[int, ...], ...], out: Any) -> list[np.ndarray]:
        if out is None:
            return [np.empty(s, d) for s, d in zip(shapes, self._out_dtypes, strict=True)]
        infos = self.info.outputs
        if isinstance(out, Mapping):
            given: list[Any] = [out.get(t.name) for t in infos]
        else:
            given = list(out) if isinstance(out, list | tuple) else [out]
        if len(given) != len(infos):
            raise InputError(
                f"{self._title()}: expected {len(infos)} output arrays, got {len(given)}"
            )
        for info, array, shape, dtype in zip(infos, given, shapes, self._out_dtypes, strict=True):
            _require_output(info, array, shape, dtype)
        return given

    def _require_empty(self, outputs: list[np.ndarray]) -> None:
        """A batch of nothing has nothing to compute, unless an output has elements all the same."""
        for info, array in zip(self.info.outputs, outputs, strict=True):
            if array.size:
                raise InputError(
                    f"{self._title()}: output {info.name} of shape {array.shape} needs a batch of at least 1, got 0"
                )

    def _run(
        self,
        inputs: list[np.ndarray],
        outputs: list[np.ndarray],
        symbols: tuple[int, ...],
        workspace: int,
    ) -> None:
        native = self._native
        try:
            context = self._idle.pop()
        except IndexError:
            context = _Arguments(
                self.info, len(symbols), native.weights_address, self._state_address()
            )
        if context.workspace.size < workspace:
            context.workspace = aligned(0)  # first: both at once may be too much
            context.workspace = self._workspace(workspace)
            context.call.workspace = int(context.workspace.ctypes.data)
        for i, array in enumerate(inputs):
            context.inputs[i] = address(array)
        for i, array in enumerate(outputs):
            context.outputs[i] = address(array)
        if context.key != symbols:
            context.symbols[: len(symbols)] = list(symbols)
            context.key = symbols
        self._invoke(context)

    def _workspace(self, size: int) -> np.ndarray:
        """Scratch memory. With state it is that of a training: large, and its first run counts."""
        try:
            return aligned(size) if self._state is None else zeroed(size)
        except (MemoryError, ValueError):  # the latter past the largest size that numpy knows
            raise InputError(
                f"{self._title()}: inputs of this size need {size} bytes of workspace"
            ) from None

    def _invoke(self, context: _Arguments) -> None:
        """Calls the native function; the arguments are idle afterwards."""
        native, call = self._native, context.call
        # Held during the call: another thread may close the model.
        pool = native.parallel()
        if pool is not None:
            call.parallel_for, call.pool = pool.function, pool.address
        code = native.invoke(self._function, context.address)
        self._idle.append(context)
        if code != 0:
            raise self._failure(code)

    def _failure(self, code: int) -> Exception:
        """The error for a status of the native function."""
        required = self._native.description.extra.get("requirements", {}).get(self.info.name, ())
        if 0 <= code - _REQUIREMENT < len(required):
            return InputError(
                f"{self._title()}: these data need more than the model was compiled for: "
                f"{required[code - _REQUIREMENT]}"
            )
        return ArtifactError(f"{self._title()} failed with code {code}")

    def _state_address(self) -> int:
        if self._state is not None:
            return int(self._state.ctypes.data)
        if self._native.description.states:
            raise InputError(f"{self._title()}: the model has state: call an entry of a context")
        return 0


def _require_output(
    info: TensorInfo, array: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    expected = f"output {info.name}: expected a writable, aligned, C-contiguous {info.dtype} array of shape {shape}"
    if not isinstance(array, np.ndarray):
        raise InputError(f"{expected}, got {type(array).__name__}")
    if array.shape != shape or array.dtype != dtype:
        raise InputError(f"{expected}, got {array.dtype.name} {array.shape}")
    if not array.flags.carray:
        raise InputError(f"{expected}, got one that is not")


class Model:
    """A compiled model. Calling it runs its first entry; `entries` has them all by name.

    Code and weights are shared by every call; a call in progress owns a context (arguments and workspace), so any
    number of threads may call at once. The thread pool is shared too: a call that finds it busy
    runs on its own thread alone.
    """

    def __init__(
        self,
        description: Description,
        code: Memory,
        symbols: Mapping[str, int],
        weights: Memory | np.ndarray,
        threads: int | None = None,
    ) -> None:
        if threads is None:
            threads = description.extra.get("threads")
        self.description = description
        self.threads = cpu.available_cpus() if threads is None else checked_threads(threads)
        self._native = _Native(description, code, symbols, weights, self.threads)
        self.entries = {e.name: Entry(self._native, e) for e in description.entries}
        self._first = next(iter(self.entries.values()))

    @staticmethod
    def from_memory(
        description: Description,
        code: bytes,
        symbols: Mapping[str, int],
        weights: np.ndarray,
        threads: int | None = None,
    ) -> Model:
        """A model from freshly compiled code. `weights` is a uint8 array, copied if not page-aligned."""
        _require_machine(description, description.name)
        if weights.ctypes.data % 64:
            copy = aligned(weights.size, 4096)
            copy[:] = weights
            weights = copy
        return Model(description, map_code(code), symbols, weights, threads)

    @property
    def name(self) -> str:
        return self.description.name

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """The inputs of the first entry."""
        return self._first.info.inputs

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """The outputs of the first entry."""
        return self._first.info.outputs

    def __call__(self, *arrays: Any, out: Any = None) -> Any:
        """Run the first entry; see `Entry`."""
        return self._first(*arrays, out=out)

    def context(self) -> Context:
        """New state for this model's entries: the first values that the artifact has, else zeros."""
        return Context(self._native)

    def workspace_size(self, batch: int = 1) -> int:
        """The bytes of scratch memory that the first entry needs for a batch."""
        return self._first.workspace_size(**dict.fromkeys(self.description.symbols, batch))

    def close(self) -> None:
        """End the worker threads now. A later call starts new ones."""
        self._native.close()

    def __repr__(self) -> str:
        inputs, outputs = ("; ".join(map(str, ts)) for ts in (self.inputs, self.outputs))
        return f"<convc model {self.name}: {inputs} -> {outputs}>"


class Context(State):
    """A model's state, and entries that work on it: `context.entries["train_step"](x, y)`.

    Contexts of one model are independent of one another. Calls on one context may run at the same time as long as none
    of them writes the state: predictions may, steps must be alone.
    """

    def __init__(self, native: _Native) -> None:
        super().__init__(native.description, native.weights)
        self.entries = {e.name: Entry(native, e, self._block) for e in native.description.entries}


def checked_threads(threads: object) -> int:
    """A number of threads. InputError for anything else."""
    if type(threads) is not int or not 1 <= threads <= MOST_THREADS:
        raise InputError(f"threads: expected 1 to {MOST_THREADS}, got {threads!r}")
    return threads


def load(
    path: str | os.PathLike[str], threads: int | None = None, check_weights: bool = True
) -> Model:
    """The model in a `.cvc` file, mapped, checked and ready to call.

    `threads` is how many one call uses, the caller's included (default: what the file says, else as many as this
    process may use CPUs).
    `check_weights=False` skips reading all weights once, about 10 ms for each 100 MB: header and code are always
    checked. ArtifactError, VersionError or CpuError, before any of its code runs, if it can't be used.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            contents = read_contents(file, name)
            _require_machine(contents.description, name)
            code, weights = _map_sections(file, contents)
    except OSError as error:
        raise ArtifactError(f"can't read {name}: {error.strerror or error}") from None
    if hashlib.sha256(code.array.data).hexdigest() != contents.code.hash:
        raise ArtifactError(f"{name}: altered: the code's hash is not the recorded one")
    array = weights if isinstance(weights, np.ndarray) else weights.array
    if check_weights and fingerprint(array) != contents.weights.hash:
        raise ArtifactError(f"{name}: altered: the weights' hash is not the recorded one")
    return Model(contents.description, code, contents.symbols, weights, threads)


def _map_sections(file: Any, contents: Contents) -> tuple[Memory, Memory | np.ndarray]:
    code = map_file(file, contents.code.offset, contents.code.size, executable=True)
    if contents.weights.size == 0:
        return code, aligned(0)
    return code, map_file(file, contents.weights.offset, contents.weights.size)


def _require_machine(description: Description, name: str) -> None:
    if description.machine != cpu.machine():
        raise CpuError(f"{name}: made for {description.machine}, this machine is {cpu.machine()}")


def _require_cpu(description: Description, check: Any) -> None:
    """Ask the model's own check, which is built for the baseline of the instruction set."""
    missing = check()
    if missing:
        names = [f for i, f in enumerate(description.cpu_features) if missing >> i & 1]
        raise CpuError(f"model {description.name}: this CPU lacks {', '.join(names)}")
