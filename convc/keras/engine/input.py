"""Model inputs."""

from __future__ import annotations

from typing import Any

from convc.errors import ModelError
from convc.keras.engine.call import Call
from convc.keras.engine.hosted import Text
from convc.keras.engine.layer import Layer
from convc.keras.engine.tensor import KerasTensor, extents, placeholder
from convc.types import DType


class InputLayer(Layer):
    """The layer that stands for a model input; `Input` makes one."""

    def __init__(
        self,
        shape: Any = None,
        batch_size: int | None = None,
        dtype: Any = None,
        sparse: Any = None,
        batch_shape: Any = None,
        input_tensor: Any = None,
        optional: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        shape = kwargs.pop("input_shape", shape)
        batch_shape = kwargs.pop("batch_input_shape", batch_shape)
        self.takes_text = dtype in ("string", str)
        super().__init__(name=name, dtype="int64" if self.takes_text else dtype, **kwargs)
        for argument, value in (("sparse", sparse), ("input_tensor", input_tensor)):
            if value is not None and value is not False:
                raise ModelError(
                    f"Input {self.name!r}: {argument} isn't supported; received {value!r}"
                )
        if batch_shape is None:
            if shape is None:
                raise ModelError(
                    f"Input {self.name!r}: shape is missing, for example shape=(28, 28, 1)"
                )
            shape = (shape,) if isinstance(shape, int) else tuple(shape)
            batch_shape = (batch_size, *shape)
        if 0 in tuple(batch_shape):
            raise ModelError(
                f"Input {self.name!r}: sizes must be at least 1; received shape {tuple(batch_shape)}"
            )
        sizes = extents(batch_shape, f"Input {self.name!r}: shape")
        kind = DType.of(dtype) if dtype is not None and not self.takes_text else self.dtype
        tensor = placeholder(self.name, sizes, kind)
        if self.takes_text:
            tensor.step.source = Text(self.name)
        call = Call(self, (), {}, [tensor])
        tensor.history = (call, 0)
        self.calls.append(call)
        self.batch_shape = tuple(batch_shape)
        self.built = True

    def get_config(self) -> dict[str, Any]:
        shape, dtype = list(self.batch_shape), "string" if self.takes_text else self.input.dtype
        return {"name": self.name, "batch_shape": shape, "dtype": dtype, "sparse": False}

    def call(self, *args: Any, **kwargs: Any) -> Any:
        raise ModelError(f"input layer {self.name!r} can't be called")

    @property
    def input(self) -> Any:
        return self.calls[0].outputs[0]


def Input(  # noqa: N802
    shape: Any = None,
    batch_size: int | None = None,
    dtype: Any = None,
    sparse: Any = None,
    batch_shape: Any = None,
    name: str | None = None,
    tensor: Any = None,
    optional: bool = False,
) -> KerasTensor:
    """A symbolic tensor of a model input; `shape` is without the batch.

    Sizes may be None: the model is compiled for each that data come with.
    """
    layer = InputLayer(shape, batch_size, dtype, sparse, batch_shape, tensor, optional, name)
    tensor_: KerasTensor = layer.calls[0].outputs[0]
    return tensor_
