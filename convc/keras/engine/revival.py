"""Layers and models from the configs in files of Keras 2 and 3."""

from __future__ import annotations

import heapq
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from convc.errors import ConvcError, InputFileError, UnsupportedError, UsageError
from convc.keras.engine import legacy
from convc.keras.engine.call import flatten
from convc.keras.engine.functions import is_operation, revived_operation
from convc.keras.engine.registry import LAYERS, custom_object
from convc.keras.engine.serialization import (
    BY_SCRIPT,
    MARSHALLED,
    entry_of,
    from_config,
    is_keras,
    plain,
    saved_lambda,
    tagged_value,
    unknown_class,
)

CONTAINERS = ("Sequential", "Functional")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class LayersError(UnsupportedError):
    """Several layers that can't be made; `problems` has a line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def revived_layer(value: Any) -> Any:
    """The layer, model or function between layers of an entry."""
    entry = entry_of(value, "layer")
    made = _made_before.get()
    earlier = [] if made is None else made.setdefault((entry["class_name"], _name_of(entry)), [])
    if "shared_object_id" in entry:
        plain_entry = _unmarked(entry)
        for other, layer in earlier:
            if _unmarked(other) == plain_entry:
                return layer
    layer = _made(entry)
    earlier.append((entry, layer))
    return layer


_made_before: ContextVar[dict[tuple[str, str], list[tuple[dict[str, Any], Any]]] | None] = (
    ContextVar("convc_keras_made_before", default=None)
)


@contextmanager
def one_file() -> Iterator[None]:
    """Within it, layers that a file marks as one object, in a model and in one nested in it, are one layer.

    Of several places Keras marks the later ones only; the first one is known by its equal config.
    """
    token = _made_before.set({})
    try:
        yield
    finally:
        _made_before.reset(token)


_OF_A_PLACE = frozenset({"shared_object_id", "inbound_nodes", "build_config", "compile_config"})


def _unmarked(value: Any) -> Any:
    """What the entries of one object have in common: all but the calls and the marks."""
    match value:
        case dict():
            return {k: _unmarked(v) for k, v in value.items() if k not in _OF_A_PLACE}
        case list():
            return [_unmarked(v) for v in value]
        case _:
            return value


def _made(entry: dict[str, Any]) -> Any:
    name = _name_of(entry)
    custom = custom_object(entry.get("registered_name"), entry["class_name"])
    if custom is None and is_operation(entry):
        return revived_operation({**entry, "config": plain(entry["config"])}, name)
    cls = custom if custom is not None else _class_of(entry)
    config = entry["config"]
    if cls.__name__ == "Lambda" and custom is None:
        config = {**config, "function": _function_of(entry, name)}
    if isinstance(config, list):  # a Sequential of Keras before 2.2.3
        config = {"name": name, "layers": config}
    if cls.__name__ not in CONTAINERS or custom is not None:
        config = plain(config)
    if custom is None and cls.__name__ not in CONTAINERS:
        config = legacy.translated(cls, config)
    if cls.__name__ == "InputLayer":
        config = with_known_sizes(config, name)
    layer = from_config(cls, config)
    _build(layer, entry.get("build_config"))
    return layer


def _name_of(entry: dict[str, Any]) -> str:
    config = entry["config"]
    inner = config.get("name") if isinstance(config, dict) else None
    return str(entry.get("name") or inner or entry["class_name"])


def _class_of(entry: dict[str, Any]) -> Any:
    module = entry.get("module")
    name = legacy.CLASSES.get(entry["class_name"], entry["class_name"])
    if (module is None or is_keras(str(module))) and name in LAYERS:
        return LAYERS[name]
    raise UnsupportedError(unknown_class(entry))


def _function_of(entry: dict[str, Any], name: str) -> Any:
    """A Lambda layer's function: one that is known by name, or passed under the layer's."""
    function = entry["config"].get("function")
    match function:
        case {"class_name": "function", "config": str() as called}:
            found = custom_object(name, function.get("registered_name"), called)
        case str() as called:
            found = custom_object(name, called)
        case {"class_name": "__lambda__", "config": dict() as marshalled}:
            found, called = custom_object(name) or saved_lambda(marshalled), ""
        case _:
            found, called = custom_object(name), ""
    if found is not None:
        return found
    if called:
        raise UnsupportedError(
            f"its function {called!r} is unknown: pass custom_objects={{{called!r}: …}}; {BY_SCRIPT}"
        )
    raise UnsupportedError(MARSHALLED)


def _build(layer: Any, build_config: Any) -> None:
    """Makes the weights of a model that its config alone doesn't build."""
    if layer.built or not isinstance(build_config, dict):
        return
    if getattr(layer, "stands_alone", False):
        layer.build_from_config(build_config)
    if not hasattr(layer, "network"):
        return
    shape = build_config.get("input_shape")
    if shape:
        layer.build(opened(shaped(shape)))


def opened(shape: Any) -> Any:
    """A shape, or a list or dict of them, for any batch: a model that was built by a call has that call's."""
    match shape:
        case dict():
            return {key: opened(value) for key, value in shape.items()}
        case list():
            return [opened(value) for value in shape]
        case _:
            return (None, *shape[1:])


def shaped(shape: Any) -> Any:
    """JSON's lists as the shape, list or dict of shapes that `build` takes."""
    match shape:
        case dict():
            return {key: shaped(value) for key, value in shape.items()}
        case list() | tuple() if shape and isinstance(shape[0], (list, tuple, dict)):
            return [shaped(value) for value in shape]
        case _:
            return tuple(shape)


def revived_layers(entries: Any, shape: Any = None) -> list[tuple[dict[str, Any], Any]]:
    """Each entry with its layer; a LayersError says all that can't be made.

    `shape` is that of the first one's input, where it is known.
    """
    if not isinstance(entries, list):
        raise InputFileError(f"layers: expected a list; received {str(entries)[:60]!r}")
    found: list[tuple[dict[str, Any], Any]] = []
    problems: list[str] = []
    for value in entries:
        entry = entry_of(value, "layers")
        where = f"layer {_name_of(entry)!r} ({entry['class_name']})"
        try:
            with input_shapes(outer_shapes(entry, shape)):
                layer = revived_layer(entry)
            found.append((entry, layer))
            shape = getattr(layer, "batch_shape", None)
        except LayersError as error:
            problems.extend(error.problems)
        except ConvcError as error:
            problems.append(f"{where}: {error}")
        except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
            problems.append(f"{where}: its config can't be read: {type(error).__name__}: {error}")
    if problems:
        raise LayersError(problems)
    return found


_shapes: ContextVar[Mapping[str, Any]] = ContextVar("convc_keras_shapes", default=_NOTHING)


@contextmanager
def input_shapes(shapes: Mapping[str, Any]) -> Iterator[None]:
    """Within it, the sizes that input layers of these names leave open are known: models take them from outside."""
    token = _shapes.set({**_shapes.get(), **shapes})
    try:
        yield
    finally:
        _shapes.reset(token)


def with_known_sizes(config: dict[str, Any], name: str) -> dict[str, Any]:
    """An input layer's config with what is known of the sizes that it leaves open, the batch aside."""
    key = "batch_shape" if "batch_shape" in config else "batch_input_shape"
    open_shape, known = config.get(key), _shapes.get().get(name)
    if not isinstance(open_shape, list) or not isinstance(known, (list, tuple)):
        return config
    known = [None, *known] if len(known) == len(open_shape) - 1 else list(known)
    if len(known) != len(open_shape):
        raise UsageError(
            f"input {name!r} has shape {tuple(open_shape)}; received the shape {tuple(known)} for it"
        )
    batch, *sizes = open_shape
    closed = [k if size is None else size for size, k in zip(sizes, known[1:], strict=True)]
    return {**config, key: [batch, *closed]}


def outer_shapes(entry: dict[str, Any], shape: Any) -> dict[str, Any]:
    """The shapes of a nested model's inputs by name, as its first call or the layer before it has them."""
    config = entry["config"]
    if not isinstance(config, dict) or not isinstance(config.get("layers"), list):
        return {}
    if "input_layers" in config:
        names = [ref.layer for ref in _refs(_structure(config["input_layers"]))]
    else:
        names = [_name_of(entry_of(e, "layers")) for e in config["layers"][:1]]
    inbound = entry.get("inbound_nodes") or [None]
    shapes = list(_tensor_shapes(inbound[0])) or [shape]
    return {name: s for name, s in zip(names, shapes, strict=False) if s is not None}


def _tensor_shapes(value: Any) -> Iterator[Any]:
    match value:
        case {"class_name": "__keras_tensor__", "config": {"shape": list() as shape}}:
            yield shape
        case dict():
            for item in value.values():
                yield from _tensor_shapes(item)
        case list():
            for item in value:
                yield from _tensor_shapes(item)


def sequential(cls: Any, config: dict[str, Any]) -> Any:
    """A Sequential from its config."""
    shape = config.get("build_input_shape") or config.get("batch_input_shape")
    layers = [layer for _, layer in revived_layers(config.get("layers"), shape)]
    model = cls(layers, name=config.get("name"))
    if model.network is None and layers and isinstance(shape, (list, tuple)):
        model.build(tuple(shape))
    model.trainable_itself(config.get("trainable", True))
    return model


@dataclass(frozen=True)
class Ref:
    """One output of one call of a layer."""

    layer: str
    node: int
    tensor: int


@dataclass(frozen=True)
class Node:
    """A call of a layer, its tensors still references."""

    args: list[Any]
    kwargs: dict[str, Any]


def functional(cls: Any, config: dict[str, Any]) -> Any:
    """A functional model from its config: every layer is called as the file says."""
    layers: dict[str, Any] = {}
    nodes: dict[str, list[Node]] = {}
    old = False
    for entry, layer in revived_layers(config.get("layers")):
        name = _name_of(entry)
        if name in layers:
            raise InputFileError(f"two layers are named {name!r}; names must differ")
        inbound = entry.get("inbound_nodes") or []
        old = old or any(isinstance(node, list) for node in inbound)
        layers[name] = layer
        nodes[name] = [_node(node) for node in inbound]
        for node, written in zip(nodes[name], inbound, strict=True):
            if "training" in node.kwargs and isinstance(written, dict) and _unsaid(layer, node):
                del node.kwargs["training"]
    given, wanted = _structure(config.get("input_layers")), _structure(config.get("output_layers"))
    if old:
        given, wanted = _unwrapped(given), _unwrapped(wanted)
        first = _first_calls(layers, nodes, [*_refs(given), *_refs(wanted)])
    else:
        first = dict.fromkeys(layers, 0)
        given, wanted = _counted_from_0(given, layers), _counted_from_0(wanted, layers)
    outputs = _called(layers, nodes, first)
    model = cls(_filled(given, outputs), _filled(wanted, outputs), name=config.get("name"))
    place = {name: number for number, name in enumerate(layers)}
    model.network.operations.sort(key=lambda o: place.get(o.name, -1))
    model.trainable_itself(config.get("trainable", True))
    return model


def _unsaid(layer: Any, node: Node) -> bool:
    """Whether `training` in a call of Keras 3's is what it writes where the user said nothing: its default.

    That is True for image layers, None (nothing is written) for models and normalizations, and False for most others.
    """
    if getattr(layer, "follows_phase", False):
        return True
    if node.kwargs["training"] is not False or hasattr(layer, "network"):
        return False
    parameter = inspect.signature(layer.call).parameters.get("training")
    return parameter is None or parameter.default is False


def _node(node: Any) -> Node:
    match node:
        case {"args": list() as args, "kwargs": dict() as kwargs}:
            return Node(_template(args), _template(kwargs))
        case list() | dict():
            return _old_node(node)
        case _:
            raise InputFileError(f"inbound_nodes: expected calls; received {str(node)[:60]!r}")


def _template(value: Any) -> Any:
    match value:
        case {
            "class_name": "__keras_tensor__",
            "config": {"keras_history": [str() as n, int() as i, int() as t]},
        }:
            return Ref(n, i, t)
        case {"class_name": str(), "config": _}:
            simple, found = tagged_value(value)
            if not simple:
                raise UnsupportedError(f"an argument of class {value['class_name']!r} isn't known")
            return found
        case dict():
            return {key: _template(item) for key, item in value.items()}
        case list():
            return [_template(item) for item in value]
        case _:
            return value


def _old_node(node: Any) -> Node:
    """A call as Keras 2 writes it: `[[layer, node, tensor, keyword arguments], …]`, or one such list for a function."""
    kwargs: dict[str, Any] = {}

    def read(value: Any) -> Any:
        match value:
            case ["_CONSTANT_VALUE", -1, constant]:
                return constant
            case ["_CONSTANT_VALUE", -1, constant, dict() as more]:
                kwargs.update({k: read(v) for k, v in more.items()})
                return constant
            case [str() as name, int() as index, int() as tensor]:
                return Ref(name, index, tensor)
            case [str() as name, int() as index, int() as tensor, dict() as more]:
                kwargs.update({k: read(v) for k, v in more.items()})
                return Ref(name, index, tensor)
            case list():
                return [read(v) for v in value]
            case dict():
                return {k: read(v) for k, v in value.items()}
            case _:
                return value

    found = read(node)
    args = found[0] if isinstance(found, list) and len(found) == 1 else found
    return Node([args], kwargs)


def _structure(value: Any) -> Any:
    match value:
        case [str() as name, int() as node, int() as tensor]:
            return Ref(name, node, tensor)
        case list() | tuple():
            return [_structure(v) for v in value]
        case dict():
            return {key: _structure(v) for key, v in value.items()}
        case _:
            raise InputFileError(
                f"input_layers and output_layers: expected [layer, call, tensor]; received {str(value)[:60]!r}"
            )


def _unwrapped(structure: Any) -> Any:
    return structure[0] if isinstance(structure, list) and len(structure) == 1 else structure


def _refs(structure: Any) -> Iterator[Ref]:
    match structure:
        case Ref():
            yield structure
        case list() | tuple():
            for item in structure:
                yield from _refs(item)
        case dict():
            for item in structure.values():
                yield from _refs(item)


def _first_calls(
    layers: dict[str, Any], nodes: dict[str, list[Node]], ends: list[Ref]
) -> dict[str, int]:
    """The number of each layer's first call in Keras 2: 1 where a model's own graph counts as call 0."""
    calls = [node for several in nodes.values() for node in several]
    used = {(r.layer, r.node) for r in [*_refs([[n.args, n.kwargs] for n in calls]), *ends]}
    return {
        name: int(getattr(layer, "network", None) is not None and (name, 0) not in used)
        for name, layer in layers.items()
    }


def _counted_from_0(structure: Any, layers: dict[str, Any]) -> Any:
    """Keras 3 counts a functional model's calls from 1 where it names inputs and outputs, from 0 everywhere else."""
    match structure:
        case Ref(name, node, tensor):
            layer = layers.get(name)
            own = getattr(layer, "network", None) is not None and not hasattr(layer, "_chain")
            return Ref(name, node - 1, tensor) if own and node else structure
        case list():
            return [_counted_from_0(item, layers) for item in structure]
        case _:
            return {key: _counted_from_0(item, layers) for key, item in structure.items()}


def _called(
    layers: dict[str, Any], nodes: dict[str, list[Node]], first: dict[str, int]
) -> dict[Ref, Any]:
    """The outputs of every call, made as soon as what it needs is there, in the file's order otherwise."""
    outputs: dict[Ref, Any] = {}
    for name, layer in layers.items():
        if not nodes[name] and layer.calls:
            outputs.update({Ref(name, 0, t): x for t, x in enumerate(layer.calls[0].outputs)})
    place = {name: number for number, name in enumerate(layers)}
    needs: dict[tuple[str, int], set[tuple[str, int]]] = {}
    readers: dict[tuple[str, int], list[tuple[str, int]]] = {}
    ready: list[tuple[int, int, str]] = []
    for name, several in nodes.items():
        for number, node in enumerate(several):
            key = (name, first[name] + number)
            wanted = {
                (r.layer, r.node)
                for r in _refs([node.args, node.kwargs])
                if Ref(r.layer, r.node, 0) not in outputs
            }
            if number:
                wanted.add((name, first[name] + number - 1))
            needs[key] = wanted
            for other in wanted:
                readers.setdefault(other, []).append(key)
            if not wanted:
                heapq.heappush(ready, (place[name], key[1], name))
    while ready:
        _, index, name = heapq.heappop(ready)
        node = nodes[name][index - first[name]]
        found = layers[name](*_filled(node.args, outputs), **_filled(node.kwargs, outputs))
        outputs.update({Ref(name, index, t): x for t, x in enumerate(flatten(found))})
        for reader in readers.get((name, index), ()):
            needs[reader].discard((name, index))
            if not needs[reader]:
                heapq.heappush(ready, (place[reader[0]], reader[1], reader[0]))
        del needs[name, index]
    if needs:
        name, _ = next(iter(needs))
        raise InputFileError(
            f"layer {name!r}: its inputs form a loop, or come from a layer that isn't there"
        )
    return outputs


def _filled(structure: Any, outputs: dict[Ref, Any]) -> Any:
    match structure:
        case Ref():
            if structure not in outputs:
                raise InputFileError(
                    f"output {structure.tensor} of call {structure.node} of layer {structure.layer!r} isn't there"
                )
            return outputs[structure]
        case list():
            return [_filled(item, outputs) for item in structure]
        case dict():
            return {key: _filled(item, outputs) for key, item in structure.items()}
        case _:
            return structure
