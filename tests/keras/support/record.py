"""Records Keras' public names and signatures in `names.json`: `python -m tests.keras.support.record`, with Keras.

A class is recorded with its constructor's arguments and the public methods that tutorials call, a function with its
arguments; each argument with its default as Python writes it, or `required`.
"""

from __future__ import annotations

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("names.json")

MODULES = (
    "", "activations", "applications", "callbacks", "constraints", "datasets", "initializers", "layers", "losses",
    "metrics", "models", "ops", "optimizers", "optimizers.schedules", "preprocessing.image",
    "preprocessing.sequence", "preprocessing.text", "random", "regularizers", "saving", "tree", "utils", "backend",
    "config", "dtype_policies", "legacy.saving", "quantizers", "distribution", "export",
)  # fmt: skip

METHODS = {
    "Model": (
        "compile", "fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch", "train_step",
        "test_step", "predict_step", "compute_loss", "compute_metrics", "make_train_function", "make_test_function",
        "make_predict_function", "summary", "save", "save_weights", "load_weights", "get_layer", "to_json",
        "get_compile_config", "compile_from_config", "reset_metrics", "export", "quantize", "get_metrics_result",
        "stateless_call", "add_loss", "add_metric", "count_params", "get_config", "from_config", "build",
    ),
    "Layer": (
        "add_weight", "add_loss", "build", "call", "compute_mask", "compute_output_shape", "compute_output_spec",
        "count_params", "get_weights", "set_weights", "get_config", "from_config", "get_build_config",
        "build_from_config", "save_own_variables", "load_own_variables", "stateless_call", "quantize", "add_metric",
    ),
}  # fmt: skip
"""Methods that are compared besides the constructors."""


def parameters(item: Any) -> list[list[str]] | None:
    """[name, default] of each parameter; None for what has no signature."""
    target = item.__init__ if inspect.isclass(item) else item
    try:
        found = list(inspect.signature(target).parameters.values())
    except (TypeError, ValueError):
        return None
    found = found[1:] if inspect.isclass(item) else found
    return [[shown(p), default(p)] for p in found]


def shown(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
    return f"{stars.get(parameter.kind, '')}{parameter.name}"  # type: ignore[call-overload]


def default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "" if "*" in shown(parameter) else "required"
    value = parameter.default
    return (
        repr(value)
        if isinstance(value, (int, float, str, tuple, list, bool, type(None)))
        else "object"
    )


def public(module: Any) -> list[str]:
    names = getattr(module, "__all__", None) or dir(module)
    return sorted(n for n in names if not n.startswith("_"))


def recorded(package: str, module: str) -> dict[str, Any]:
    """The names of a module: what they are, and their parameters."""
    found = importlib.import_module(f"{package}.{module}" if module else package)
    names: dict[str, Any] = {}
    for name in public(found):
        item = getattr(found, name, None)
        if inspect.ismodule(item):
            names[name] = {"kind": "module"}
        elif inspect.isclass(item):
            names[name] = {"kind": "class", "parameters": parameters(item)}
            methods = {
                m: parameters(getattr(item, m)) for m in METHODS.get(name, ()) if hasattr(item, m)
            }
            if methods:
                names[name]["methods"] = methods
        elif callable(item):
            names[name] = {"kind": "function", "parameters": parameters(item)}
    return names


def main() -> None:
    import keras

    found: dict[str, Any] = {"made by": f"Keras {keras.__version__}"}
    for module in MODULES:
        try:
            found[module or "keras"] = recorded("keras", module)
        except ImportError:
            print(f"Keras has no {module}")
    lines = [f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in found.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
