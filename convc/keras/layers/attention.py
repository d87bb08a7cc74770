"""Attention: means of values, weighted by how well their keys fit queries."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from convc.errors import ModelError
from convc.keras import constraints, initializers, ops, regularizers
from convc.keras.engine.arguments import choice, fraction, is_integer, positive, refuse, title
from convc.keras.engine.layer import Layer
from convc.keras.engine.masks import masked
from convc.keras.engine.naming import entered
from convc.keras.engine.tensor import KerasTensor, Variable, apply, as_tensor, floating
from convc.keras.layers.einsum_dense import EinsumDense
from convc.ops import elementwise


def causal(rows: Any, columns: Any) -> KerasTensor:
    """Which of `columns` keys each of `rows` queries may look at: those of its own step and before."""
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise ModelError(f"a causal mask needs known steps; received {rows} and {columns}")
    return as_tensor(np.tri(rows, columns, dtype=bool))


def both(a: Any, b: Any) -> Any:
    """Where both masks hold; None stands for everywhere."""
    if a is None or b is None:
        return b if a is None else a
    return ops.logical_and(ops.cast(a, "bool"), ops.cast(b, "bool"))


def dropped(x: KerasTensor, rate: float) -> KerasTensor:
    return apply(elementwise.Dropout(rate), x) if rate else x


class Attention(Layer):
    """softmax(query @ key^T) @ value, called on [query, value] or [query, value, key] (batch, steps, features).

    With `use_scale` scores are multiplied by a weight; `score_mode="concat"` takes the sum of tanh(query + key) times
    another one (Luong et al., 2015). A mask of the values leaves them out, that of the queries makes their rows zeros.
    """

    supports_masking = True

    def __init__(
        self,
        use_scale: bool = False,
        score_mode: str = "dot",
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.use_scale, self.seed = bool(use_scale), seed
        self.score_mode = choice(self, "score_mode", score_mode, ("dot", "concat"))
        self.dropout = fraction(self, "dropout", dropout)
        self.scale: Variable | None = None
        self.concat_score_weight: Variable | None = None

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        if self.use_scale:
            self.scale = self.add_weight((), "ones", name="scale")
        if self.score_mode == "concat":
            self.concat_score_weight = self.add_weight((), "ones", name="concat_score_weight")

    def _check(self, inputs: Any) -> None:
        if not isinstance(inputs, (list, tuple)) or len(inputs) not in (2, 3):
            raise ModelError(
                f"{title(self)}: expected [query, value] or [query, value, key]; received {inputs!r}"
            )

    def scores(self, query: KerasTensor, key: KerasTensor) -> KerasTensor:
        """(batch, queries, keys): how well each key fits."""
        if self.score_mode == "dot":
            found: KerasTensor = ops.matmul(query, ops.swapaxes(key, -2, -1))
            return found if self.scale is None else found * self.scale
        pairs = ops.expand_dims(query, -2) + ops.expand_dims(key, -3)
        pairs = pairs if self.scale is None else pairs * self.scale
        return as_tensor(ops.sum(ops.tanh(pairs), axis=-1) * self.concat_score_weight)

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: Any = False,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        self._check(inputs)
        query, value = floating(inputs[0]), floating(inputs[1])
        key = floating(inputs[2]) if len(inputs) > 2 else value
        masks = [None, None] if mask is None else list(mask)
        scores = self.scores(query, key)
        kept = None if masks[1] is None else ops.expand_dims(masks[1], -2)
        if use_causal_mask:
            kept = both(kept, causal(*scores.type.shape[-2:]))
        if kept is not None:
            scores = ops.where(kept, scores, scores - 1e9)
        weights = ops.softmax(scores)
        found = ops.matmul(dropped(weights, self.dropout), value)
        if masks[0] is not None:
            found = ops.where(ops.expand_dims(masks[0], -1), found, 0.0)
        return (found, weights) if return_attention_scores else found

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return None if previous_mask is None else previous_mask[0]


class AdditiveAttention(Attention):
    """Attention by sums of scale * tanh(query + key) (Bahdanau et al., 2015); weight `scale` (features)."""

    def __init__(self, use_scale: bool = True, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(use_scale=use_scale, dropout=dropout, **kwargs)

    def build(self, input_shape: Any) -> None:
        self._check(input_shape)
        if self.use_scale:
            self.scale = self.add_weight((input_shape[0][-1],), "glorot_uniform", name="scale")

    def scores(self, query: KerasTensor, key: KerasTensor) -> KerasTensor:
        pairs = ops.tanh(ops.expand_dims(query, -2) + ops.expand_dims(key, -3))
        return ops.sum(pairs if self.scale is None else pairs * self.scale, axis=-1)


class ProjectedAttention(Layer):
    """What attention of several heads shares: settings, sublayers that project, masks."""

    supports_masking = True
    inner: ClassVar[tuple[str, ...]] = ("query", "key", "value", "output")

    def _set_common(self, arguments: dict[str, Any]) -> None:
        self.dropout = fraction(self, "dropout", arguments["dropout"])
        self.use_bias, self.seed = bool(arguments["use_bias"]), arguments["seed"]
        for kind in ("kernel", "bias"):
            for name, get in (
                ("initializer", initializers.get),
                ("regularizer", regularizers.get),
                ("constraint", constraints.get),
            ):
                setattr(self, f"{kind}_{name}", get(arguments[f"{kind}_{name}"]))
        if arguments["use_gate"]:
            refuse(self, "use_gate", "False", True)

    def projection(
        self, name: str, equation: str, sizes: Any, biased: str, shape: Any
    ) -> EinsumDense:
        """A sublayer of that name, built for inputs of the shape."""
        kinds = ("initializer", "regularizer", "constraint")
        settings = {
            f"{k}_{n}": getattr(self, f"{k}_{n}") for k in ("kernel", "bias") for n in kinds
        }
        layer = EinsumDense(
            equation,
            sizes,
            bias_axes=biased if self.use_bias else None,
            dtype=self.dtype,
            name=name,
            **settings,
        )
        with entered(name):
            layer.build(shape)
        layer.built = True
        return layer

    def _ensure_built(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.built:
            return
        given = dict(zip(("query", "value", "key"), args, strict=False))
        given |= {n: kwargs[n] for n in ("query", "value", "key") if n in kwargs}
        shapes = {n: t.shape for n, t in given.items() if isinstance(t, KerasTensor)}
        if "query" not in shapes or "value" not in shapes:
            raise ModelError(f"{title(self)}: expected tensors query and value; received {args!r}")
        self.build(shapes["query"], shapes["value"], shapes.get("key"))
        self._build_shape = shapes["query"]
        self._shapes = shapes
        self.built = True

    def get_build_config(self) -> dict[str, Any] | None:
        found = getattr(self, "_shapes", None)
        return (
            None if found is None else {"shapes_dict": {f"{n}_shape": s for n, s in found.items()}}
        )

    def build_from_config(self, config: dict[str, Any]) -> None:
        shapes = config.get("shapes_dict") or config
        if "query_shape" in shapes and "value_shape" in shapes:
            self.build(*(shapes.get(f"{n}_shape") for n in ("query", "value", "key")))
            self.built = True

    def build(self, query_shape: Any, value_shape: Any = None, key_shape: Any = None) -> None:
        raise NotImplementedError

    def mask_of(
        self, query: Any, value: Any, masks: tuple[Any, Any, Any], given: Any, use_causal_mask: bool
    ) -> Any:
        """What each query may look at, broadcasting to (batch, queries, keys); None for everything."""
        query_mask, value_mask, key_mask = masks
        found = given
        if query_mask is not None:
            found = both(found, ops.expand_dims(query_mask, -1))
        for mask in (value_mask, key_mask):
            if mask is not None:
                found = both(found, ops.expand_dims(mask, -2))
        if use_causal_mask:
            found = both(found, causal(query.type.shape[1], value.type.shape[1]))
        return found


class MultiHeadAttention(ProjectedAttention):
    """Attention of `num_heads` projections side by side (Vaswani et al., 2017).

    Called on query (batch, T, features), value and key (batch, S, …).

    Sublayers `query`, `key`, `value` and `attention_output` have the weights. Axes between the first and the last are
    attended along; `attention_axes` says which, if not all.
    """

    def __init__(
        self, num_heads: int, key_dim: int, value_dim: int | None = None, dropout: float = 0.0, use_bias: bool = True,
        output_shape: Any = None, attention_axes: Any = None, sliding_window: int | None = None,
        flash_attention: Any = None, kernel_initializer: Any = "glorot_uniform", bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
        kernel_constraint: Any = None, bias_constraint: Any = None, use_gate: bool = False, seed: int | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        arguments = locals()
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._set_common(arguments)
        self.num_heads = positive(self, "num_heads", num_heads)
        self.key_dim = positive(self, "key_dim", key_dim)
        self.value_dim = self.key_dim if not value_dim else positive(self, "value_dim", value_dim)
        if sliding_window is not None:
            refuse(self, "sliding_window", "None", sliding_window)
        sizes = (output_shape,) if is_integer(output_shape) else output_shape
        self.projected_shape = None if sizes is None else tuple(sizes)
        axes = (attention_axes,) if is_integer(attention_axes) else attention_axes
        self.attention_axes = None if axes is None else tuple(axes)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(output_shape=self.projected_shape, flash_attention=None)
        return config

    def build(self, query_shape: Any, value_shape: Any = None, key_shape: Any = None) -> None:
        value_shape = query_shape if value_shape is None else value_shape
        key_shape = value_shape if key_shape is None else key_shape
        if tuple(value_shape[1:-1]) != tuple(key_shape[1:-1]):
            raise ModelError(
                f"{title(self)}: value and key must have the same shape but for the last axis; "
                f"received {value_shape} and {key_shape}"
            )
        rank = len(query_shape)
        axes = tuple(range(1, rank - 1)) if self.attention_axes is None else self.attention_axes
        self._axes = tuple(a % rank for a in axes)
        letters = "abcdefg"[: rank - 1]
        heads = {"query": self.key_dim, "key": self.key_dim, "value": self.value_dim}
        shapes = {"query": query_shape, "key": key_shape, "value": value_shape}
        made = {}
        for name, size in heads.items():
            sizes = (*[None] * (rank - 2), self.num_heads, size)
            equation = f"{letters}x,xyz->{letters}yz"
            made[name] = self.projection(name, equation, sizes, "yz", shapes[name])
        self.query_dense, self.key_dense, self.value_dense = made.values()
        wanted = self.projected_shape or (query_shape[-1],)
        out = "uvw"[: len(wanted)]
        self.output_dense = self.projection(
            "attention_output",
            f"{letters}yz,yz{out}->{letters}{out}",
            (*[None] * (rank - 2), *wanted),
            out,
            (*query_shape[:-1], self.num_heads, self.value_dim),
        )

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: Any = None,
        use_causal_mask: bool = False,
    ) -> Any:
        key = value if key is None else key
        masks = (query_mask, value_mask, key_mask)
        mask = self.mask_of(query, value, masks, attention_mask, use_causal_mask)
        query, key, value = (masked(floating(t), None) for t in (query, key, value))
        q, k, v = self.query_dense(query), self.key_dense(key), self.value_dense(value)
        scores, weights = self._weights(q, k, mask)
        found = self.output_dense(self._combined(weights, v, scores))
        return (found, weights) if return_attention_scores else found

    def _letters(self, rank: int) -> tuple[str, str, str]:
        """The axes of queries and keys (…, heads, size) and of the scores (…, heads, queries, keys)."""
        queries = list("abcdefg"[: rank - 2])
        keys, own = list(queries), [queries[a] for a in self._axes]
        for a in self._axes:
            keys[a] = queries[a].upper()
        others = [c for d, c in enumerate(queries) if d not in self._axes]
        scores = [*others, "y", *own, *(c.upper() for c in own)]
        return "".join(queries), "".join(keys), "".join(scores)

    def _weights(self, q: Any, k: Any, mask: Any) -> tuple[str, KerasTensor]:
        """The scores' letters, and softmax of the scores."""
        queries, keys, letters = self._letters(q.type.rank)
        q = q * (1.0 / math.sqrt(self.key_dim))
        scores = ops.einsum(f"{queries}yz,{keys}yz->{letters}", q, k)
        count = len(self._axes)
        if mask is not None:
            while mask.ndim < scores.ndim:
                mask = ops.expand_dims(mask, -2 * count - 1)
            scores = scores + (1.0 - ops.cast(mask, scores.dtype)) * -1e9
        rank = scores.type.rank
        return letters, ops.softmax(
            scores, axis=tuple(range(rank - count, rank)) if count > 1 else -1
        )

    def _combined(self, weights: KerasTensor, v: KerasTensor, letters: str) -> KerasTensor:
        queries, keys, _ = self._letters(v.type.rank)
        return ops.einsum(f"{letters},{keys}yz->{queries}yz", dropped(weights, self.dropout), v)


class GroupQueryAttention(ProjectedAttention):
    """Attention in which several query heads share a head of keys and values (Ainslie et al., 2023).

    Called on query (batch, T, features), value and key (batch, S, features).
    """

    type_name = "GroupedQueryAttention"
    """Keras' name of the class in summaries and weight files; its public one is the other."""

    def __init__(
        self, head_dim: int, num_query_heads: int, num_key_value_heads: int, dropout: float = 0.0,
        use_bias: bool = True, flash_attention: Any = None, kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros", kernel_regularizer: Any = None, bias_regularizer: Any = None,
        activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None,
        use_gate: bool = False, seed: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        arguments = locals()
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        self._set_common(arguments)
        self.head_dim = positive(self, "head_dim", head_dim)
        self.num_query_heads = positive(self, "num_query_heads", num_query_heads)
        self.num_key_value_heads = positive(self, "num_key_value_heads", num_key_value_heads)
        if self.num_query_heads % self.num_key_value_heads:
            refuse(self, "num_query_heads", f"a multiple of {num_key_value_heads}", num_query_heads)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "flash_attention": None}

    def build(self, query_shape: Any, value_shape: Any = None, key_shape: Any = None) -> None:
        value_shape = query_shape if value_shape is None else value_shape
        key_shape = value_shape if key_shape is None else key_shape
        many, few, size = self.num_query_heads, self.num_key_value_heads, self.head_dim
        split = "bqm,muh->bquh"
        self._query_dense = self.projection("query", split, (None, many, size), "uh", query_shape)
        self._key_dense = self.projection("key", split, (None, few, size), "uh", key_shape)
        self._value_dense = self.projection("value", split, (None, few, size), "uh", value_shape)
        inside = (*query_shape[:-1], many, size)
        self._output_dense = self.projection(
            "attention_output", "bquh,uhm->bqm", (None, query_shape[-1]), "m", inside
        )

    def call(
        self,
        query: Any,
        value: Any,
        key: Any = None,
        query_mask: Any = None,
        value_mask: Any = None,
        key_mask: Any = None,
        attention_mask: Any = None,
        return_attention_scores: bool = False,
        training: Any = None,
        use_causal_mask: bool = False,
    ) -> Any:
        key = value if key is None else key
        masks = (query_mask, value_mask, key_mask)
        mask = self.mask_of(query, value, masks, attention_mask, use_causal_mask)
        query, key, value = (masked(floating(t), None) for t in (query, key, value))
        repeats = self.num_query_heads // self.num_key_value_heads
        q = self._query_dense(query) * (1.0 / math.sqrt(self.head_dim))
        k = ops.repeat(self._key_dense(key), repeats, axis=2)
        v = ops.repeat(self._value_dense(value), repeats, axis=2)
        scores = ops.einsum("bquh,bkuh->buqk", q, k)
        if mask is not None:
            mask = ops.expand_dims(mask, -3) if mask.ndim == 3 else mask
            scores = scores + (1.0 - ops.cast(mask, scores.dtype)) * -1e9
        weights = ops.softmax(scores)
        found = ops.einsum("buqk,bkuh->bquh", dropped(weights, self.dropout), v)
        result = self._output_dense(found)
        return (result, weights) if return_attention_scores else result
