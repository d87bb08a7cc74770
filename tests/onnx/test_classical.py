"""Operators of ai.onnx.ml and of text against ONNX' reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from convc.errors import ConvcError
from convc.onnx.backend import CompiledRep
from convc.onnx.importer import import_model

RNG = np.random.default_rng(21)
X = np.round(RNG.standard_normal((17, 6)), 1).astype(np.float32)


def model(
    kind: str, x: Any, outputs: str = "y", domain: str = "ai.onnx.ml", **given: Any
) -> onnx.ModelProto:
    made = helper.make_node(kind, ["x"], outputs.split(), domain=domain, **given)
    code = helper.np_dtype_to_tensor_dtype(x.dtype)
    graph = helper.make_graph(
        [made],
        "test",
        [helper.make_tensor_value_info("x", code, x.shape)],
        [helper.make_empty_tensor_value_info(o) for o in outputs.split()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def assert_like_reference(made: onnx.ModelProto, x: Any) -> None:
    expected = ReferenceEvaluator(made).run(None, {"x": x})
    for a, b in zip(CompiledRep(made, threads=2).run([x]), expected, strict=True):
        assert a.shape == np.shape(b)
        if a.dtype.kind in "iu":
            np.testing.assert_array_equal(a, b)
        else:
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


# ---------------------------------------------------------------- trees


def forest(
    kind: str,
    trees: int = 5,
    results: int = 1,
    modes: tuple[str, ...] = ("BRANCH_LEQ",),
    missing: bool = False,
) -> dict[str, Any]:
    """Random trees of depth up to 4, each leaf with a weight per result."""
    nodes: dict[str, list[Any]] = {
        f"nodes_{name}": []
        for name in (
            "treeids",
            "nodeids",
            "featureids",
            "modes",
            "values",
            "truenodeids",
            "falsenodeids",
        )
    }
    tracks: list[int] = []
    weights: dict[str, list[Any]] = {
        f"{kind}_{n}": [] for n in ("treeids", "nodeids", "ids", "weights")
    }

    def grow(tree: int, depth: int) -> int:
        row = len(tracks)
        me = nodes["nodes_treeids"].count(tree)
        leaf = depth == 4 or (depth > 0 and RNG.random() < 0.2)
        mode = "LEAF" if leaf else str(RNG.choice(modes))
        values = (
            tree,
            me,
            int(RNG.integers(6)),
            mode,
            float(np.round(RNG.standard_normal(), 1)),
            0,
            0,
        )
        for column, value in zip(nodes.values(), values, strict=True):
            column.append(value)
        tracks.append(int(missing and RNG.random() < 0.5))
        if leaf:
            for k in range(results):
                entry = (tree, me, k, float(RNG.standard_normal()))
                for column, value in zip(weights.values(), entry, strict=True):
                    column.append(value)
        else:
            nodes["nodes_truenodeids"][row] = grow(tree, depth + 1)
            nodes["nodes_falsenodeids"][row] = grow(tree, depth + 1)
        return me

    for tree in range(trees):
        grow(tree, 0)
    return {**nodes, **weights, "nodes_missing_value_tracks_true": tracks}


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("results", [1, 3])
def test_regressions_by_trees(aggregate: str, results: int) -> None:
    trees = forest("target", results=results)
    made = model(
        "TreeEnsembleRegressor", X, n_targets=results, aggregate_function=aggregate, **trees
    )
    assert_like_reference(made, X)


def test_every_comparison_and_missing_values() -> None:
    modes = tuple(f"BRANCH_{m}" for m in ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ"))
    x = np.where(RNG.random(X.shape) < 0.3, np.nan, X).astype(np.float32)
    made = model(
        "TreeEnsembleRegressor", x, n_targets=1, base_values=[0.5], aggregate_function="SUM",
        **forest("target", 9, 1, modes, True),
    )  # fmt: skip
    assert_like_reference(made, x)


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
def test_classes_by_trees(post: str) -> None:
    trees = forest("class", results=3)
    made = model(
        "TreeEnsembleClassifier",
        X,
        "l s",
        classlabels_int64s=[7, 5, 9],
        post_transform=post,
        **trees,
    )
    assert_like_reference(made, X)


def test_two_classes_by_one_score() -> None:
    made = model(
        "TreeEnsembleClassifier", X, "l s", classlabels_int64s=[4, 8], post_transform="LOGISTIC",
        **forest("class"),
    )  # fmt: skip
    assert_like_reference(made, X)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes_featureids": 99}, "compares feature 99 of 6"),
        ({"nodes_modes": "BRANCH_NEAR"}, "mode 'BRANCH_NEAR' is not supported"),
        ({"nodes_truenodeids": 0}, "lead back to themselves"),
        ({"nodes_truenodeids": 77}, "do not fit"),
        ({"target_ids": 3}, "a weight for a target outside of 1"),
    ],
)
def test_trees_that_are_none_are_refused(change: dict[str, Any], message: str) -> None:
    trees = forest("target", 1)
    for name, value in change.items():
        trees[name][0] = value
    made = model("TreeEnsembleRegressor", X, n_targets=1, **trees)
    with pytest.raises(ConvcError, match=message):
        import_model(made)


# ---------------------------------------------------------------- linear models, support vectors


def drawn(count: int) -> list[float]:
    return [float(v) for v in RNG.standard_normal(count)]


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
def test_linear_classes(post: str) -> None:
    made = model(
        "LinearClassifier", X, "l s", classlabels_ints=[2, 4, 3], coefficients=drawn(18), intercepts=drawn(3),
        post_transform=post,
    )  # fmt: skip
    assert_like_reference(made, X)


def test_linear_regressions() -> None:
    given: dict[str, Any] = {"coefficients": drawn(12), "intercepts": drawn(2), "targets": 2}
    assert_like_reference(model("LinearRegressor", X, **given), X)


KERNELS = {"RBF": (0.3, 0, 0), "LINEAR": (0, 0, 0), "POLY": (0.3, 0.5, 3), "SIGMOID": (0.3, 0.1, 0)}


@pytest.mark.parametrize("kernel", KERNELS)
def test_support_vectors(kernel: str) -> None:
    given: dict[str, Any] = {
        "kernel_type": kernel,
        "kernel_params": [float(v) for v in KERNELS[kernel]],
    }
    made = model(
        "SVMRegressor",
        X,
        n_supports=5,
        support_vectors=drawn(30),
        coefficients=drawn(5),
        rho=[0.2],
        **given,
    )
    assert_like_reference(made, X)
    made = model(
        "SVMClassifier", X, "l s", vectors_per_class=[2, 3, 2], support_vectors=drawn(42), coefficients=drawn(14),
        rho=drawn(3), classlabels_ints=[4, 5, 6], **given,
    )  # fmt: skip
    assert_like_reference(made, X)


# ---------------------------------------------------------------- features


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_norms_of_rows(norm: str) -> None:
    x = X.copy()
    x[3] = 0
    assert_like_reference(model("Normalizer", x, norm=norm), x)


def test_features() -> None:
    assert_like_reference(model("Binarizer", X, threshold=0.25), X)
    assert_like_reference(model("Scaler", X, offset=drawn(6), scale=drawn(6)), X)
    lost = np.where(RNG.random(X.shape) < 0.3, np.nan, X).astype(np.float32)
    given: dict[str, Any] = {"imputed_value_floats": drawn(6), "replaced_value_float": float("nan")}
    assert_like_reference(model("Imputer", lost, **given), lost)
    whole = RNG.integers(0, 6, (7, 2))
    assert_like_reference(model("OneHotEncoder", whole, cats_int64s=[0, 2, 5], zeros=1), whole)
    keys: dict[str, Any] = {
        "keys_int64s": [0, 2, 5],
        "values_floats": [0.5, 1.5, 9.0],
        "default_float": -2.0,
    }
    assert_like_reference(model("LabelEncoder", whole, **keys), whole)


def test_what_is_left_out_says_so() -> None:
    given: dict[str, Any] = {"coefficients": drawn(12), "intercepts": drawn(2)}
    made = model("LinearClassifier", X, "l s", classlabels_strings=["a", "b"], **given)
    with pytest.raises(ConvcError, match="labels that are strings are not supported"):
        import_model(made)
    with pytest.raises(ConvcError, match="zipmap=False"):
        import_model(model("ZipMap", X, classlabels_int64s=[1, 2]))


# ---------------------------------------------------------------- n-grams


@pytest.mark.parametrize("mode", ["TF", "IDF", "TFIDF"])
@pytest.mark.parametrize(
    ("shortest", "longest", "skips"), [(1, 1, 0), (1, 3, 0), (2, 3, 4), (1, 2, 1)]
)
def test_counts_of_n_grams(mode: str, shortest: int, longest: int, skips: int) -> None:
    x = RNG.integers(1, 5, (4, 11))
    made = model(
        "TfIdfVectorizer", x, domain="", mode=mode, min_gram_length=shortest, max_gram_length=longest,
        max_skip_count=skips, pool_int64s=[2, 3, 4, 1, 2, 3, 4, 4, 1, 2, 3, 2, 2, 2], ngram_counts=[0, 2, 8],
        ngram_indexes=[0, 3, 1, 2, 5, 4, 6], weights=drawn(7),
    )  # fmt: skip
    assert_like_reference(made, x)
    row = x[0]
    made.graph.input[0].CopyFrom(
        helper.make_tensor_value_info("x", onnx.TensorProto.INT64, row.shape)
    )
    assert_like_reference(made, row)


@pytest.mark.parametrize("values", [(8, 16, 8192, 0, 4096), (40, 512, 16000, 60, 7600)])
def test_bands_of_frequencies(values: tuple[int, ...]) -> None:
    kinds = (np.int64, np.int32, np.int64, np.float32, np.float32)
    arrays = [np.array(v, kind) for v, kind in zip(values, kinds, strict=True)]
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), ())
        for n, a in zip("abcde", arrays, strict=True)
    ]
    made = helper.make_node("MelWeightMatrix", list("abcde"), ["y"])
    graph = helper.make_graph([made], "test", infos, [helper.make_empty_tensor_value_info("y")])
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    expected: Any
    (expected,) = ReferenceEvaluator(whole).run(None, dict(zip("abcde", arrays, strict=True)))
    (found,) = CompiledRep(whole).run(arrays)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
