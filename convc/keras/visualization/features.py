"""What the layers of a network compute from an input: their outputs, taken out of the compiled model."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import convc
from convc.errors import ModelError, UnsupportedError, UsageError, type_text
from convc.graph.ir import Graph, Node
from convc.keras.engine.layer import Layer
from convc.keras.engine.model import Model
from convc.keras.visualization.sheets import sheet
from convc.ops.conv import Conv2d
from convc.scripts import load_model
from convc.types import DType

Array = NDArray[Any]
SIDES = ("first", "last")
NEAR = 5
SAME = ("dropout", "identity")
"""Operators that give what they are given when the model predicts."""


class FeatureMaps(dict[str, Array]):
    """Layers' outputs by name, batch first, as the layers give them.

    `channels` says of each layer on which side of the two spatial axes its channels stand.
    """

    def __init__(self, arrays: Mapping[str, Array], channels: Mapping[str, str]) -> None:
        super().__init__(arrays)
        self.channels = dict(channels)

    def maps(self, layer: str) -> Array:
        """A layer's maps [image, map, height, width] in float32.

        A vector of features is one map of one row, a sequence one map with a row per step.
        """
        array = self[layer]
        array = array.astype(np.float32, copy=False)
        match array.ndim:
            case 2:
                return array[:, None, None, :]
            case 3:
                return array[:, None]
            case 4:
                last = self.channels[layer] == "last"
                return array.transpose(0, 3, 1, 2) if last else array
            case rank:
                raise UnsupportedError(
                    f"layer {layer!r}: outputs of rank {rank} {array.shape} have no picture: expected rank 2, 3 or 4"
                )

    def sheet(self, layer: str, image: int = 0, columns: int | None = None) -> Any:
        """The maps of one image of the batch as a labelled grid, an image of Pillow."""
        maps = self.maps(layer)
        if not -len(maps) <= image < len(maps):
            raise UsageError(f"sheet: image {image}: the batch has {len(maps)}")
        count, height, width = maps.shape[1:]
        return sheet(maps[image], f"{layer}: {count} of {height}x{width}", columns)

    def statistics(self) -> list[dict[str, Any]]:
        """For each layer its shape, the least, the largest and the mean value over the whole batch.

        `dead` are the numbers of the maps that have one value everywhere and for every image, such as zero behind
        relu; `nonfinite` counts NaN and infinities, which the other numbers leave out.
        """
        return [row(name, self[name], self.maps(name)) for name in self]


def row(name: str, array: Array, maps: Array) -> dict[str, Any]:
    finite = maps[np.isfinite(maps)]
    lowest, highest = maps.min((0, 2, 3)), maps.max((0, 2, 3))
    pixels = maps.shape[0] * maps.shape[2] * maps.shape[3]
    dead: list[int] = np.flatnonzero(lowest == highest).tolist() if pixels > 1 else []
    return {
        "layer": name,
        "shape": list(array.shape),
        "maps": maps.shape[1],
        "min": float(finite.min()) if finite.size else None,
        "max": float(finite.max()) if finite.size else None,
        "mean": float(finite.mean(dtype=np.float64)) if finite.size else None,
        "dead": dead,
        "nonfinite": int(maps.size - finite.size),
    }


def feature_maps(
    model: Any,
    x: Any,
    layers: str | Iterable[str] | None = None,
    channels: str | None = None,
) -> FeatureMaps:
    """The outputs of layers for a batch `x` (an array, a list of them, or a dict by input name).

    `model` is a model or a path (model.py[:name], .keras, .h5, .onnx). Without `layers` it is every layer whose output
    has two spatial axes. A layer inside another is `outer/inner`; the second call of a shared layer is `layer:2`.
    Values of the graph (ONNX' tensors) may be named too. Where the channels stand is what the layer says
    (Keras) or in front (ONNX) unless `channels` ("first" or "last") says it. ModelError, with the names near it, for a
    name that isn't there.
    """
    if channels not in (None, *SIDES):
        raise UsageError(f"channels: expected one of {', '.join(SIDES)}, got {channels!r}")
    source, graph = opened(model)
    values = layer_values(graph)
    wanted = [layers] if isinstance(layers, str) else layers
    names = list(pictured(graph, values)) if wanted is None else list(dict.fromkeys(wanted))
    if not names:
        raise ModelError(f"model {graph.name!r} has no layer with two spatial axes: name some")
    found = {name: value_of(name, values, graph, source) for name in names}
    outputs = tuple(dict.fromkeys(found.values()))
    cut = graph.rebuilt(reaching(graph, outputs), outputs)
    results = convc.compile(replace(cut, name="features"))(*arguments(cut, x))
    arrays = dict(zip(outputs, results if isinstance(results, list) else [results], strict=True))
    sides = {n: channels or channels_of(source, n) for n in names}
    return FeatureMaps({n: as_numpy(arrays[v]) for n, v in found.items()}, sides)


def opened(model: Any) -> tuple[Any, Graph]:
    """A model and its graph of predictions."""
    source = load_model(str(model)) if isinstance(model, str | os.PathLike) else model
    if not hasattr(source, "graphs"):
        raise UsageError(f"feature_maps: expected a model or a path, got {type_text(source)}")
    graphs = source.graphs()
    return source, graphs.get("predict") or next(iter(graphs.values()))


def arguments(graph: Graph, x: Any) -> tuple[Any, ...]:
    """What the compiled graph is called with, in the dtypes that it takes."""
    if isinstance(x, Mapping):
        return ({n: checked(graph, n, a) for n, a in x.items()},)
    arrays = list(x) if isinstance(x, list | tuple) and len(graph.inputs) > 1 else [x]
    if len(arrays) != len(graph.inputs):
        raise UsageError(
            f"feature_maps: expected {len(graph.inputs)} arrays ({', '.join(graph.inputs)}), got {len(arrays)}"
        )
    return tuple(checked(graph, n, a) for n, a in zip(graph.inputs, arrays, strict=True))


def checked(graph: Graph, name: str, array: Any) -> Array:
    """An input in the dtype that the graph takes."""
    dtype = graph.types[name].dtype.numpy if name in graph.types else None
    found: Array = np.asarray(array, dtype)
    return found


def as_numpy(array: Array) -> Array:
    """Floats of 16 bits as float32, which numpy's own functions take."""
    dtype = DType.of(array.dtype)
    return array.astype(np.float32) if dtype.is_float and dtype.itemsize < 4 else array


# ---------------------------------------------------------------- layers and their values


def layer_values(graph: Graph) -> dict[str, str]:
    """The value that each layer gives, in order; a layer that computes twice is `name` and `name:2`."""
    found: dict[str, str] = {}
    current, key = "", ""
    for node in graph.nodes:
        if not node.layer:
            continue
        if node.layer != current:
            current = key = node.layer
            number = 2
            while key in found:
                key, number = f"{current}:{number}", number + 1
        found[key] = node.outputs[0]
    return found


def pictured(graph: Graph, values: Mapping[str, str]) -> Iterator[str]:
    """The layers whose outputs are maps: rank 4, not one pixel each, and other than what the layer was given."""
    producers = graph.producers()
    for name, value in values.items():
        shape = graph.types[value].shape
        if producers[value].op.mnemonic in SAME:
            continue
        if len(shape) == 4 and sum(extent == 1 for extent in shape[1:]) < 2:
            yield name


def value_of(name: str, values: Mapping[str, str], graph: Graph, source: Any) -> str:
    """The value that is meant by a layer's or a value's name."""
    if name in values:
        return values[name]
    if any(name in node.outputs for node in graph.nodes):
        return name
    if any(layer.name == name for layer in layers_of(source)):
        raise ModelError(
            f"layer {name!r} of model {graph.name!r} computes nothing when the model predicts"
        )
    near = difflib.get_close_matches(name, values, NEAR, 0.5)
    shown = near or list(values)[: 2 * NEAR]
    more = ", …" if not near and len(values) > len(shown) else ""
    raise ModelError(
        f"no layer {name!r}; {'near it' if near else 'there are'}: {', '.join(shown)}{more}"
    )


def layers_of(source: Any) -> list[Layer]:
    """A Keras model's layers, those inside others too; none for other models."""
    if not isinstance(source, Model):
        return []
    found: list[Layer] = []
    queue = list(source.layers)
    while queue:
        layer = queue.pop(0)
        found.append(layer)
        queue += layer.sublayers
    return found


def channels_of(source: Any, name: str) -> str:
    """Where a layer's channels stand: Keras' layers say it, ONNX has them in front."""
    if not isinstance(source, Model):
        return "first"
    last_part = name.partition(":")[0].rpartition("/")[2]
    said = {layer.name: getattr(layer, "data_format", None) for layer in layers_of(source)}
    own = said.get(last_part) or next(filter(None, said.values()), None)  # pointwise: as the others
    return "first" if own == "channels_first" else "last"


def reaching(graph: Graph, outputs: tuple[str, ...]) -> list[Node]:
    """The nodes that the outputs need, in order."""
    needed, kept = set(outputs), []
    for node in reversed(graph.nodes):
        if needed & set(node.outputs):
            needed |= set(node.inputs)
            kept.append(node)
    return kept[::-1]


# ---------------------------------------------------------------- filters


@dataclass(frozen=True)
class Filters:
    """The kernels of a convolution: `array` is [output, input channel, height, width]."""

    layer: str
    array: Array

    @property
    def maps(self) -> Array:
        """As pictures: in colours for three input channels, else one map per output and input channel."""
        outputs, inputs, height, width = self.array.shape
        if inputs == 3:
            return self.array.transpose(0, 2, 3, 1)
        return self.array.reshape(outputs * inputs, height, width)

    def sheet(self, columns: int | None = None) -> Any:
        """The maps as a labelled grid; with several input channels, one row per output."""
        outputs, inputs, height, width = self.array.shape
        rows = columns or (inputs if inputs not in (1, 3) else None)
        title = f"{self.layer}: {outputs} filters of {inputs}x{height}x{width}"
        return sheet(self.maps, title, rows)


def filters(model: Any, layer: str | None = None) -> Filters:
    """The filters of a layer's convolution, or of the first one that the model has."""
    source, graph = opened(model)
    convolutions = [n for n in graph.nodes if isinstance(n.op, Conv2d)]
    if layer is not None:
        value_of(layer, layer_values(graph), graph, source)
        convolutions = [n for n in convolutions if layer in (n.layer, *n.outputs)]
    if not convolutions:
        where = f"layer {layer!r}" if layer else f"model {graph.name!r}"
        raise ModelError(f"{where} has no 2-D convolution, so no filters")
    node = convolutions[0]
    kernel = graph.weights.get(node.inputs[1])
    if kernel is None:
        raise UnsupportedError(
            f"layer {node.layer!r}: its filters are computed ({node.inputs[1]}), not stored"
        )
    return Filters(node.layer or node.outputs[0], as_numpy(np.asarray(kernel)))
