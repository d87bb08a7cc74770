"""Model scripts: `model.py[:name]` is run, and the model that it defines is found. ONNX and Keras files are models too.

A script that imports `keras` or `tensorflow.keras` gets `convc.keras` under those names while it loads, where the real
ones aren't installed.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol, runtime_checkable

from convc.errors import (
    ConvcError,
    InputFileError,
    ModelError,
    UnsupportedError,
    UsageError,
    type_text,
)
from convc.graph.ir import Graph

FRONT_END = "convc.keras"
ONNX_READER = "convc.onnx.importer"
KERAS_READER = "convc.keras.saving"
TENSORFLOW_NAMES = "convc.keras.tensorflow_names"
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
Shapes = Mapping[str, int | Sequence[int]]
LENT_AS = ("keras", "tensorflow.keras")


@runtime_checkable
class Model(Protocol):
    """What can be compiled: something with named entry graphs."""

    def graphs(self) -> Mapping[str, Graph]: ...


@runtime_checkable
class Sizable(Protocol):
    """A model that takes sizes, which it leaves open, from outside: whole shapes by input name, or the one size."""

    def fix_sizes(self, given: Shapes) -> None: ...


def load_model(spec: str, shapes: Shapes | None = None) -> Model:
    """The one model of `path.py`, or the one called `name` of `path.py:name`, or that of an ONNX or Keras file.

    `shapes` has numbers for an ONNX model's named dimensions, or shapes for a model's inputs; a number stands for the
    one size that an input leaves open. InputFileError if the file can't be read; ModelError (with file and line) if
    the script raises, defines no model, or defines several and `name` doesn't choose. An error of convc's own that the
    script raises keeps its kind.
    """
    if spec.endswith(".onnx"):
        opened: Model = importlib.import_module(ONNX_READER).OnnxModel(spec, shapes or {})
        return opened
    if spec.endswith(KERAS_SUFFIXES):
        reader = importlib.import_module(KERAS_READER)
        return at_sizes(spec, reader.load_model(spec, compile=False, input_shapes=shapes), shapes)
    path, name = split_spec(spec)
    values = run_script(path, lent=missing_packages())
    if not models_in(values) and any(map(is_foreign, values.values())):
        values = run_script(path, lent=LENT_AS)
    return at_sizes(spec, choose(path, values, name), shapes)


def at_sizes(spec: str, model: Model, shapes: Shapes | None) -> Model:
    """The model of a file for inputs of these shapes; UsageError where they aren't the model's."""
    if not shapes:
        return model
    if not isinstance(model, Sizable):
        raise UsageError(f"{spec}: --shape: its {type_text(model)} takes no sizes from outside")
    try:
        model.fix_sizes(shapes)
    except UsageError as error:
        raise UsageError(f"{spec}: --shape: {error}") from None
    return model


def split_spec(spec: str) -> tuple[Path, str | None]:
    """The file and the name of `path[:name]`."""
    before, colon, after = spec.rpartition(":")
    if colon and before.endswith(".py") and not Path(spec).exists():
        return Path(before), after
    return Path(spec), None


def choose(path: Path, values: Mapping[str, object], name: str | None) -> Model:
    """The model called `name` among a script's values, or the only one."""
    models = models_in(values)
    candidates = ", ".join(f"{path}:{n}" for n in models)
    if name is not None:
        if name in models:
            return models[name]
        found = values.get(name)
        came = "no such name" if name not in values else f"{type_text(found)}, not a model"
        known = f"; models there: {candidates}" if models else "; no models there"
        raise ModelError(f"{path}:{name}: {came}{known}")
    if not models:
        raise ModelError(
            f"{path}: no model: expected a module-level {FRONT_END} Model, such as `model = Sequential([…])`"
        )
    if len(models) > 1:
        raise ModelError(f"{path}: {len(models)} models: choose one of {candidates}")
    (model,) = models.values()
    return model


def models_in(values: Mapping[str, object]) -> dict[str, Model]:
    """The models of a script by the first name that each has."""
    found: dict[str, Model] = {}
    for name, value in values.items():
        is_model = isinstance(value, Model) and not isinstance(value, type)
        if is_model and not name.startswith("_") and not any(value is m for m in found.values()):
            found[name] = value  # type: ignore[assignment]  # narrowed through is_model
    return found


def is_foreign(value: object) -> bool:
    """True for a layer or model of an installed Keras."""
    return type(value).__module__.split(".")[0] in ("keras", "tf_keras", "tensorflow")


def run_script(path: Path, lent: Sequence[str]) -> dict[str, object]:
    """Runs a script as a module and returns its variables. What it prints goes to stderr; it has no arguments."""
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        raise InputFileError(f"{path}: no such file (expected a model script)") from None
    except OSError as error:
        raise InputFileError(f"{path}: {error.strerror} (expected a model script)") from None
    if path.suffix != ".py":
        known = ", ".join((".py", ".onnx", *KERAS_SUFFIXES))
        raise InputFileError(f"{path}: expected a model, whose name ends in {known}")
    module = ModuleType("__convc_script__")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    folder = str(path.resolve().parent)
    argv, sys.argv = sys.argv, [str(path)]
    sys.path.insert(0, folder)
    try:
        with contextlib.redirect_stdout(sys.stderr), lending(lent):
            exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        raise kind_of(error)(describe(error, path)) from error
    finally:
        sys.argv = argv
        sys.path.remove(folder)
    return dict(vars(module))


def kind_of(error: BaseException) -> type[ConvcError]:
    """The kind of convc's own errors that one is, which decides the exit code; ModelError for all others."""
    kinds = (k for k in type(error).__mro__ if k.__module__ == ConvcError.__module__)
    return next(kinds, ModelError)


def describe(error: BaseException, path: Path) -> str:
    """`file:line: exception` in one line, where line is the last one of the script itself."""
    message = " ".join(str(error).split())
    kind = type(error).__name__
    if isinstance(error, SyntaxError):
        line = f":{error.lineno}" if error.lineno else ""
        return f"{path}{line}: {kind}: {error.msg}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
    line = f":{frames[-1].lineno}" if frames else ""
    if isinstance(error, SystemExit):
        return f"{path}{line}: the script exits ({message or 0}) instead of defining a model"
    if isinstance(error, ConvcError):
        return message if message.startswith(f"{path}:") else f"{path}{line}: {message}"
    return f"{path}{line}: {kind}: {message}" if message else f"{path}{line}: {kind}"


# ---------------------------------------------------------------- lending convc.keras


def missing_packages() -> tuple[str, ...]:
    """The names of LENT_AS whose package isn't installed."""
    return tuple(name for name in LENT_AS if importlib.util.find_spec(name.split(".")[0]) is None)


@contextlib.contextmanager
def lending(names: Sequence[str]) -> Iterator[None]:
    """Makes `convc.keras` importable under the given names, until the block ends.

    Where the block ends by an import of what isn't lent, the error is convc's own of that name.
    """
    roots = {name.split(".")[0] for name in names}
    aside = {m: sys.modules.pop(m) for m in list(sys.modules) if m.split(".")[0] in roots}
    finder = LendingFinder(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    except ImportError as error:
        reason = not_lent(error)
        if reason is None:
            raise
        raise reason.with_traceback(error.__traceback__) from error
    finally:
        sys.meta_path.remove(finder)
        for module in [m for m in sys.modules if m.split(".")[0] in roots]:
            del sys.modules[module]
        sys.modules.update(aside)


def not_lent(error: ImportError) -> ConvcError | None:
    """What convc says of a name that it doesn't lend: Python makes an ImportError of it, without the reason."""
    if isinstance(error, ModuleNotFoundError):
        parent, _, name = (error.name or "").rpartition(".")
    else:
        found = re.match(r"cannot import name '(\w+)'", str(error))
        parent, name = error.name or "", found[1] if found else ""
    module = sys.modules.get(parent)
    if isinstance(module, LentModule) and name:
        try:
            getattr(module, name)
        except ConvcError as reason:
            return reason
        if isinstance(error, ModuleNotFoundError):
            return NotLentError(f"convc lends no module {error.name}")
    return None


class NotLentError(UnsupportedError, AttributeError):
    """A name of Keras or TensorFlow that convc hasn't: `hasattr` is False, as of any module."""


class LentModule(ModuleType):
    """A module whose attributes are those of a part of convc.keras, or the lent ones of TensorFlow (`real` is None)."""

    def __init__(self, name: str, real: object) -> None:
        super().__init__(name)
        self.__path__: list[str] = []
        if real is not None:
            self.__all__ = getattr(real, "__all__", [n for n in dir(real) if not n.startswith("_")])
        self._real = real

    def __getattr__(self, name: str) -> object:
        if self._real is None:
            return self._lent_part(name)
        try:
            return getattr(self._real, name)
        except AttributeError as error:
            if isinstance(error, ConvcError):
                raise
            raise NotLentError(f"{FRONT_END}, lent as {self.__name__}, has no {name!r}") from None

    def _lent_part(self, name: str) -> object:
        """`tf.keras` after `import tensorflow as tf`, which doesn't import it by itself, or one of TENSORFLOW_NAMES."""
        full = f"{self.__name__}.{name}"
        if any(f"{lent}.".startswith(f"{full}.") for lent in LENT_AS):
            return importlib.import_module(full)
        lent: Mapping[str, object] = importlib.import_module(TENSORFLOW_NAMES).NAMES
        path = full.removeprefix("tensorflow.")
        if path in lent:
            return lent[path]
        if any(known.startswith(f"{path}.") for known in lent):
            return LentModule(full, None)
        near = difflib.get_close_matches(path, list(lent), n=3)
        raise NotLentError(
            f"tensorflow isn't installed: convc lends no {full}; of tf it has keras, GradientTape, Variable, function, "
            f"data.Dataset, and much of what computes in tf itself, tf.math, tf.nn, tf.image and tf.random"
            + (f" (did you mean tf.{' or tf.'.join(near)}?)" if near else "")
        )


class LendingFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds `keras.layers` as `convc.keras.layers`, and so on."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        is_parent = any(name.startswith(f"{fullname}.") for name in self.names)
        if is_parent or self.real(fullname) is not None:
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def real(self, fullname: str) -> object | None:
        """The part of convc.keras that is lent under a name, or None."""
        for name in self.names:
            if fullname == name or fullname.startswith(f"{name}."):
                return self.part(fullname.removeprefix(name))
        return None

    @staticmethod
    def part(suffix: str) -> object | None:
        full = FRONT_END + suffix
        try:
            return importlib.import_module(full)
        except ModuleNotFoundError as error:
            if error.name is None or not full.startswith(error.name):
                raise
        parent, _, last = full.rpartition(".")
        return getattr(sys.modules.get(parent), last, None)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return LentModule(spec.name, self.real(spec.name))

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: the attributes are looked up when they are asked for."""
