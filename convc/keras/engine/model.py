"""Models: functional ones from `Model(inputs, outputs)`, and subclasses that define `call`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import convc
from convc.errors import ModelError, UnsupportedError
from convc.graph.ir import Graph
from convc.keras.engine import exporting, revival, saving, summary
from convc.keras.engine.call import collected_losses, collecting_losses, flatten, map_tensors
from convc.keras.engine.configs import functional_config
from convc.keras.engine.graphs import Reads, Viewed, graph_of_variables
from convc.keras.engine.hosted import Text, fed, hosted_sizes, prepared
from convc.keras.engine.input import InputLayer
from convc.keras.engine.layer import Layer, inputs_like
from convc.keras.engine.naming import (
    entered,
    nearest,
    outermost,
    snake_case,
    unique_name,
)
from convc.keras.engine.network import Network, network
from convc.keras.engine.open_sizes import Sizes, closed, has_open, sizes_for
from convc.keras.engine.registry import LAYERS, custom_object_scope
from convc.keras.engine.serialization import serialize_keras_object
from convc.keras.engine.steps import settled_variables
from convc.keras.engine.tensor import KerasTensor, as_tensor, placeholder
from convc.keras.training.trainer import Trainer


class Model(Trainer):
    """A layer that can be compiled: `Model(inputs, outputs)`, or a subclass with layers and `call`."""

    def __init__(
        self,
        inputs: Any = None,
        outputs: Any = None,
        name: str | None = None,
        trainable: bool = True,
        **kwargs: Any,
    ) -> None:
        functional = inputs is not None or outputs is not None
        if functional and (inputs is None or outputs is None):
            raise ModelError("Model: give both inputs and outputs, or neither and define call()")
        base = (
            "functional" if functional and type(self) is Model else snake_case(type(self).__name__)
        )
        super().__init__(name=name or unique_name(base), trainable=trainable, **kwargs)
        self.network: Network | None = None
        self._sized: Network | None = None
        self._input_types: Any = None
        self._native: tuple[Any, Callable[..., Any]] | None = None
        if functional:
            self.network = network(self.name, inputs, outputs)
            self.built = True

    @property
    def type_name(self) -> str:
        """The class as summaries show it."""
        return "Functional" if type(self) is Model and self.network else type(self).__name__

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if self.network is None:
            raise ModelError(f"model {self.name!r} ({type(self).__name__}) has no call() method")
        return self.network.run(args[0] if args else kwargs["inputs"])

    def _ensure_built(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        first = args[0] if args else next(iter(kwargs.values()))
        if self._input_types is None:
            self._input_types = map_tensors(lambda t: ((None, *t.shape[1:]), t.type.dtype), first)
        own = self.network is None and type(self).build is not Model.build and not self.built
        self.built = True
        if own:
            self.build(map_tensors(lambda t: (None, *t.shape[1:]), first))

    def build(self, input_shape: Any) -> None:
        """Makes the weights for an input of this shape, batch included: (None, 28, 28, 1)."""
        traced = inputs_like(input_shape, self.dtype)
        with outermost(), collecting_losses(), entered(""), self._noticing_changes():
            with settled_variables():
                self._ensure_built((traced,), {})
            self.call(traced)

    @property
    def operations(self) -> list[Any]:
        """Layers and functions as summaries list them."""
        return list(self.network.operations) if self.network else self.sublayers

    @property
    def layers(self) -> list[Layer]:
        """The layers of the model, inputs included for a functional one."""
        return [o for o in self.operations if isinstance(o, Layer)]

    @property
    def sublayers(self) -> list[Layer]:
        return self.layers if self.network else super().sublayers

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """The layer of that name or position; ModelError names the nearest."""
        layers = self.layers
        if index is not None and name is None:
            if not -len(layers) <= index < len(layers):
                raise ModelError(
                    f"model {self.name!r} has {len(layers)} layers; received index {index}"
                )
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        known = [layer.name for layer in layers]
        raise ModelError(
            f"model {self.name!r} has no layer {name!r}{nearest(name, known)}; it has {', '.join(known)}"
        )

    @property
    def inputs(self) -> list[KerasTensor]:
        return list(flatten(self.traced().inputs))

    @property
    def outputs(self) -> list[KerasTensor]:
        return list(flatten(self.traced().outputs))

    @property
    def input(self) -> Any:
        return self.traced().inputs

    @property
    def output(self) -> Any:
        return self.traced().outputs

    def traced(self) -> Network:
        """The inputs and outputs between which the graph lies."""
        if self._sized is not None:
            return self._sized
        if self.network is not None:
            return self.network
        if self._input_types is None and self._build_shape is not None:  # a `build` of its own
            like = inputs_like(self._build_shape, self.dtype)
            self._input_types = map_tensors(lambda t: (t.shape, t.type.dtype), like)
        if self._input_types is None:
            raise ModelError(
                f"model {self.name!r} ({type(self).__name__}) doesn't know its input's shape: call "
                f"model.build((None, …)), or the model on an Input, first"
            )
        inputs = _placeholders(self._input_types, _first_parameter(self))
        with outermost(), collecting_losses() as losses, entered(""), self._noticing_changes():
            outputs = self.call(inputs)
            self._check_outputs(outputs)
        return Network(inputs, outputs, [], [], losses)

    def graphs(self) -> dict[str, Graph]:
        """The model's entries: {"predict": graph}, the batch a symbol N unless an Input fixes it."""
        return {"predict": self.graph_of_variables()[0]}

    def specialized(self, sizes: Sizes) -> Network:
        """The model traced for inputs of these shapes, where it leaves sizes open."""
        traced = self.traced()
        if not self.has_open_sizes:
            return traced
        names = iter(self.input_names)

        def sized(tensor: KerasTensor) -> KerasTensor:
            name = next(names)
            if name not in sizes:  # text, of which layers in Python make numbers
                return tensor
            shape = closed(tensor.type.shape, sizes[name])
            return placeholder(name, shape, tensor.type.dtype)

        inputs = map_tensors(sized, traced.inputs)
        with (
            outermost(),
            collecting_losses() as losses,
            entered(""),
            hosted_sizes(sizes),
            self._noticing_changes(),
        ):
            outputs = self.call(inputs)
        return Network(inputs, outputs, [], [], losses)

    def fix_sizes(self, given: Mapping[str, Any]) -> None:
        """From now on, the model is one for inputs of these sizes, by input name, where it leaves sizes open.

        UsageError for names and shapes that aren't the inputs'.
        """
        shapes = [t.type.shape for t in flatten(self.traced().inputs)]
        known = sizes_for(dict(zip(self.input_names, shapes, strict=True)), given)
        self._sized = self.specialized(known)

    @property
    def has_open_sizes(self) -> bool:
        """Whether an input leaves a size open, besides the batch."""
        return any(has_open(t.type.shape) for _, t in self.fed(self.traced()))

    def fed(self, traced: Network) -> list[tuple[str, KerasTensor]]:
        """What the graph takes: the inputs by name, numbers in place of text."""
        if self._fed is None or self._fed[0] is not traced:
            outputs = list(flatten(traced.outputs))
            outputs += [t.mask for t in outputs if t.mask is not None] + traced.losses
            found = fed(self.input_names, list(flatten(traced.inputs)), outputs)
            self._fed = traced, found
        return self._fed[1]

    _fed: tuple[Network, list[tuple[str, KerasTensor]]] | None = None

    def prepared(self, arrays: list[Any]) -> dict[str, Any]:
        """What the graph takes, by name, of the data for the model's inputs."""
        traced = self.traced()
        return prepared(self.fed(traced), list(flatten(traced.inputs)), arrays)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.network is not None and args and not any(True for _ in flatten(args)):
            sources = [t.step.source for t in flatten(self.network.inputs)]
            if any(isinstance(s, Text) for s in sources):
                return map_tensors(as_tensor, self.predict_on_batch(args[0]))
        return super().__call__(*args, **kwargs)

    def graph_of_variables(
        self,
        losses: bool = False,
        sizes: Sizes | None = None,
        nominal: bool = False,
        reads: Reads | None = None,
    ) -> tuple[Graph, dict[str, Viewed]]:
        """The graph of `predict`, and which of its weights are which variables.

        `sizes` are the inputs' shapes, where the model leaves sizes open; UnsupportedError without them, unless
        `nominal` ones will do: then the graph is for its names and types alone, and its weights have no values. Else
        those of variables that aren't among what it `reads` (by default all) have none.

        With `losses`, the masks of the `masked_outputs` come after the outputs, then what layers add to the loss.
        """
        traced = self.traced() if sizes is None else self.specialized(sizes)
        taken = self.fed(traced)
        open_inputs = [t for _, t in taken if has_open(t.type.shape)]
        if open_inputs and not nominal:
            (name, *_), shape = _names(open_inputs), open_inputs[0].shape
            raise UnsupportedError(
                f"Input {name!r}: only the batch size may be None in what is compiled; received shape {shape[1:]}: "
                f"give the sizes in the script's Input, by --shape {name}=… or by "
                f"load_model's input_shapes; fit and predict take them from the data"
            )
        outputs = list(flatten(traced.outputs))
        if losses:
            outputs += [t.mask for t in outputs if t.mask is not None] + traced.losses
        read = reads or (lambda variable: not (nominal and variable.can_wait))
        return graph_of_variables("predict", taken, outputs, read)

    @property
    def masked_outputs(self) -> list[int]:
        """The positions of the outputs that have a mask: not all of their values count in losses."""
        return [k for k, t in enumerate(flatten(self.traced().outputs)) if t.mask is not None]

    def add_loss(self, loss: Any, inputs: Any = None) -> None:
        """Adds a tensor's sum to the training's loss: within `call`, or of a functional model's tensors."""
        if collected_losses() is not None or self.network is None:
            super().add_loss(loss)
        else:
            self.network.follow(self.name, as_tensor(loss))
            self.network.added_losses.append(as_tensor(loss))

    def add_metric(self, value: Any, name: str | None = None, aggregation: Any = None) -> None:
        """Shows the mean of a tensor under a name in logs: within `call`, or of a functional model's tensors."""
        if collected_losses() is not None or self.network is None:
            super().add_metric(value, name, aggregation)
            return
        if name is None:
            raise ModelError(f"{self.name}.add_metric: expected a name for logs; received None")
        tensor = as_tensor(value)
        self.network.follow(self.name, tensor)
        self.network.added_metrics.append((self._metric_named(name), tensor))
        self.changes_state = True

    @property
    def input_names(self) -> list[str]:
        """The names of the inputs: their Input layers', or what produces them."""
        return _names(self.traced().inputs)

    @property
    def output_names(self) -> list[str]:
        """The names of the layers whose outputs are the model's."""
        return _names(self.traced().outputs)

    def build_for(self, x: Any) -> None:
        """Makes the weights for data of these shapes, where they aren't made yet."""
        if self.network is None and self._input_types is None and not self.built:
            self.build(_batch_shapes(x))

    def native(self) -> Callable[..., Any]:
        """The model as native code, compiled again after its weights changed."""
        if self._native is None or self.is_stale():
            self._native = self._weights_state(), convc.compile(self)
        return self._native[1]

    def is_stale(self) -> bool:
        """Whether the model was compiled for prediction with other weights than it has."""
        return self._native is not None and self._native[0] != self._weights_state()

    def _weights_state(self) -> list[tuple[int, int]]:
        return [(id(w), w.version) for w in self.weights]

    def summary(
        self,
        line_length: int | None = None,
        positions: Any = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Any = None,
        style: str = "box",
    ) -> None:
        """Prints a table of layers, shapes and parameters; style "box" (Keras 3) or "classic" (Keras 2)."""
        text = summary.text(
            self, line_length, positions, expand_nested, show_trainable, layer_range, style
        )
        (print_fn or print)(text)

    def save_weights(
        self,
        filepath: str | Path,
        overwrite: bool = True,
        max_shard_size: float | None = None,
    ) -> None:
        """Writes all weights to a .safetensors, .npz or .weights.h5 file.

        With `max_shard_size` in GiB to several .weights.h5 files, which a .weights.json file names.
        """
        saving.save_weights(self, Path(filepath), overwrite, max_shard_size)

    def load_weights(
        self, filepath: str | Path, skip_mismatch: bool = False, by_name: bool = False
    ) -> None:
        """Reads all weights from a .safetensors, .npz, .weights.h5, .h5 or .keras file, by name or else by order."""
        saving.load_weights(self, Path(filepath), skip_mismatch, by_name)

    def export(
        self,
        filepath: str | Path,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **options: Any,
    ) -> None:
        """Writes the model as an ONNX file with `format="onnx"`; Keras' other formats are refused by name.

        `input_signature` has an InputSpec (or what has a shape) for each input: its sizes, None for a batch of any
        size, dtype and name. `opset_version` is the other option.
        """
        exporting.export(self, filepath, format, verbose, input_signature, options)

    def save(self, filepath: str | Path, overwrite: bool = True, **settings: Any) -> None:
        """Writes architecture and weights to a .keras file (Keras 3's) or a .h5 file (Keras 2's)."""
        saving.save_model(self, Path(filepath), overwrite, **settings)

    def to_json(self, **settings: Any) -> str:
        """The architecture as `keras.models.model_from_json` reads it."""
        return json.dumps(serialize_keras_object(self), **settings)

    @property
    def saved_as(self) -> dict[str, Any] | None:
        """How files name the class, where that isn't Python's name of it."""
        if type(self) is not Model or self.network is None:
            return None
        module = "keras.src.models.functional"
        return {"module": module, "class_name": "Functional", "registered_name": "Functional"}

    def get_config(self) -> dict[str, Any]:
        """The layers and their calls for a functional model; a subclass's name and arguments."""
        own_arguments = type(self).__init__ is not Model.__init__
        return (
            super().get_config()
            if self.network is None or own_arguments
            else functional_config(self)
        )

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """The model of a config that `get_config` or Keras made; its weights are new."""
        with custom_object_scope(custom_objects):
            if "input_layers" in config and "output_layers" in config:
                return revival.functional(cls, config)
            return cls(**config)

    def get_build_config(self) -> dict[str, Any] | None:
        if self.network is not None:
            return {"input_shape": map_tensors(lambda t: t.shape, self.network.inputs)}
        if self._input_types is None:
            return None
        return {"input_shape": _shapes_of(self._input_types)}


class Sequential(Model):
    """A chain of layers; its weights are made when the input's shape is known."""

    def __init__(self, layers: Any = None, trainable: bool = True, name: str | None = None) -> None:
        super().__init__(name=name, trainable=trainable)
        self._chain: list[Layer] = []
        self._first: InputLayer | None = None
        for layer in layers or []:
            self.add(layer, rebuild=False)
        self._rebuild()

    def add(self, layer: Any, rebuild: bool = True) -> None:
        """Appends a layer (an Input only in the first place)."""
        if isinstance(layer, KerasTensor) and layer.history is not None:
            layer = layer.history[0].operation
        if isinstance(layer, InputLayer):
            if self._chain or self._first:
                raise ModelError(
                    f"Sequential {self.name!r}: an Input can only come first, and once"
                )
            self._first = layer
            return
        if not isinstance(layer, Layer):
            if not callable(layer) or isinstance(layer, type):
                raise ModelError(f"Sequential {self.name!r}: expected a layer; received {layer!r}")
            raise ModelError(
                f"Sequential {self.name!r}: expected a layer; received the function {layer!r}: wrap it in Lambda"
            )
        if any(layer.name == other.name for other in self._chain):
            raise ModelError(
                f"Sequential {self.name!r}: two layers are named {layer.name!r}; names must differ"
            )
        if self._first is None and not self._chain and layer.declared_shape is not None:
            self._first = InputLayer(batch_shape=layer.declared_shape, dtype=layer.dtype)
        self._chain.append(layer)
        if rebuild:
            self._rebuild()

    def pop(self, rebuild: bool = True) -> Layer:
        """Removes and returns the last layer."""
        if not self._chain:
            raise ModelError(f"Sequential {self.name!r} has no layers to pop")
        last = self._chain.pop()
        self._rebuild()
        return last

    def _rebuild(self) -> None:
        self.network = None
        self.built = False
        head = self._chain[0] if self._chain else None
        if self._first is None and isinstance(head, Model) and head.network is not None:
            start = next(flatten(head.network.inputs))
            self._first = InputLayer(batch_shape=start.shape, dtype=start.dtype)
        if self._first is not None and self._chain:
            self._connect(self._first)

    def _connect(self, first: InputLayer) -> None:
        with outermost():
            x = start = first.input
            for layer in self._chain:
                x = layer(x)
            self.network = network(self.name, start, x)
        self.built = True

    def build(self, input_shape: Any = None) -> None:
        if not isinstance(input_shape, (list, tuple)):
            raise ModelError(
                f"Sequential {self.name!r}: expected build((None, 28, 28, 1)); received {input_shape!r}"
            )
        if not self._chain:
            raise ModelError(f"Sequential {self.name!r} has no layers; add one first")
        self._first = InputLayer(batch_shape=tuple(input_shape), dtype=self._chain[0].dtype)
        self._connect(self._first)

    def _ensure_built(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.network is None:
            shape = next(flatten((args, kwargs))).shape
            self.build((None, *shape[1:]))

    @property
    def layers(self) -> list[Layer]:
        return list(self._chain)

    @property
    def operations(self) -> list[Any]:
        return list(self._chain)

    @property
    def sublayers(self) -> list[Layer]:
        return list(self._chain)

    def traced(self) -> Network:
        if not self._chain:
            raise ModelError(f"Sequential {self.name!r} has no layers; add one first")
        if self.network is None:
            raise ModelError(
                f"Sequential {self.name!r} doesn't know its input's shape: start it with Input(shape=…), or call "
                f"model.build((None, …))"
            )
        return self._sized or self.network

    def get_config(self) -> dict[str, Any]:
        """The layers, the input first where it is known."""
        if type(self).__init__ is not Sequential.__init__:
            return super().get_config()
        first = [self._first] if self._first is not None else []
        config: dict[str, Any] = {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": self.dtype_policy,
            "layers": [serialize_keras_object(layer) for layer in [*first, *self._chain]],
        }
        if self._first is not None:
            config["build_input_shape"] = list(self._first.batch_shape)
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        with custom_object_scope(custom_objects):
            return revival.sequential(cls, config) if "layers" in config else cls(**config)

    @property
    def input_shape(self) -> Any:
        return self.traced().inputs.shape

    @property
    def output_shape(self) -> Any:
        return self.traced().outputs.shape


def _shapes_of(types: Any) -> Any:
    """The shapes in what `_input_types` holds."""
    match types:
        case (tuple() as shape, dtype) if not isinstance(dtype, tuple):
            return shape
        case dict():
            return {key: _shapes_of(value) for key, value in types.items()}
        case _:
            return [_shapes_of(value) for value in types]


def _placeholders(types: Any, name: str) -> Any:
    """Inputs for what a subclassed model was called on; its structure's keys or the parameter name them."""
    match types:
        case (tuple() as shape, dtype) if not isinstance(dtype, tuple):
            like = inputs_like(shape, dtype)
            return placeholder(name, like.type.shape, dtype)
        case dict():
            return {key: _placeholders(value, key) for key, value in types.items()}
        case _:
            return [
                _placeholders(value, f"{name}_{n}" if n else name) for n, value in enumerate(types)
            ]


def _batch_shapes(x: Any) -> Any:
    """The shapes of arrays in lists and dicts, with an open batch."""
    match x:
        case dict():
            return {key: _batch_shapes(value) for key, value in x.items()}
        case list() | tuple() if x and isinstance(x[0], np.ndarray):
            return [_batch_shapes(value) for value in x]
        case _:
            return (None, *np.shape(x)[1:])


def _names(tensors: Any) -> list[str]:
    names: list[str] = []
    for tensor in flatten(tensors):
        base = name = tensor.history[0].operation.name if tensor.history else tensor.name
        count = 0
        while name in names:
            count += 1
            name = f"{base}_{count}"
        names.append(name)
    return names


def _first_parameter(model: Model) -> str:
    code = type(model).call.__code__
    return code.co_varnames[1] if code.co_argcount > 1 else "inputs"


LAYERS.update(Functional=Model, Model=Model, Sequential=Sequential)
