"""Import rules of ensembles of decision trees (ai.onnx.ml)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convc.graph.ir import Array
from convc.onnx.importers.call import Call, Rejected, Rule
from convc.onnx.importers.scores import chosen_label, labels_of, transformed, two_classes
from convc.ops.trees import MODES, TRACKS_MISSING, TreeSums
from convc.types import DType

BRANCHES = {f"BRANCH_{mode.upper()}": code for code, mode in enumerate(MODES)}
MEMBER = len(MODES)
"""The code of a test for membership in a set, which becomes a chain of equalities."""


VISITS = 64
"""How often a node is met on the ways to the leaves, on average and at the most: chains of equalities share theirs."""


@dataclass
class Forest:
    """Trees under construction: a row per node, of which a leaf leads to itself; and the leaves' weights."""

    nodes: list[list[int]] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def leaf(self, entries: Sequence[tuple[int, float]]) -> int:
        """Adds a leaf with (target, weight) pairs."""
        at = len(self.nodes)
        self.nodes.append([0, 0, at, at, len(self.targets), len(entries)])
        self.values.append(0.0)
        self.targets += [int(t) for t, _ in entries]
        self.weights += [float(w) for _, w in entries]
        return at

    def branch(self, feature: int, code: int, value: float) -> int:
        """Adds a node whose ways are not known yet."""
        self.nodes.append([int(feature), int(code), -1, -1, 0, 0])
        self.values.append(float(value))
        return len(self.nodes) - 1

    def lead(self, node: int, yes: int, no: int) -> None:
        """Says where a branch leads to."""
        if node in (yes, no):
            raise Rejected("has a tree whose nodes lead back to themselves")
        self.nodes[node][2:4] = [yes, no]

    def depths(self) -> list[int]:
        """The nodes that lie between each root and its farthest leaf; Rejected where trees are none."""
        found, most = [], 1024 + VISITS * len(self.nodes)
        for root in self.roots:
            level, depth = {root}, 0
            while True:
                inner = [n for n in level if self.nodes[n][2] != n]
                if not inner:
                    break
                depth += 1
                most -= len(inner)
                if most < 0:
                    raise Rejected("has a tree whose nodes lead back to themselves")
                level = {child for n in inner for child in self.nodes[n][2:4]}
            found.append(depth)
        return found

    def sums(self, c: Call, aggregate: str, base: Array) -> str:
        """The aggregates [rows, targets] for the node's first input."""
        wide = c.dtype(0) if c.dtype(0) is DType.float64 else DType.float32
        x = c.cast(c[0], wide)
        x = c.reshape(x, (1, *c.shape(x))) if c.rank(x) == 1 else x
        nodes = np.array(self.nodes, np.int32).reshape((-1, 6))
        features = c.shape(x)[1]
        if isinstance(features, int) and nodes[:, 0].max(initial=-1) >= features:
            raise Rejected(f"compares feature {nodes[:, 0].max()} of {features}")
        if nodes[:, :4].min(initial=0) < 0:
            raise Rejected("has a negative feature, or a node that leads nowhere")
        if np.any((np.array(self.targets) < 0) | (np.array(self.targets) >= len(base))):
            raise Rejected(f"has a weight for a target outside of {len(base)}")
        roots = np.stack([self.roots, self.depths()], axis=-1).astype(np.int32)
        inner = [n for k, n in enumerate(self.nodes) if n[2] != k]
        modes = tuple(sorted({n[1] for n in inner})) or (0,)
        values = (np.array(v, wide.numpy) for v in (self.values, self.weights, base))
        limits, weights, offsets = (c.constant(v) for v in values)
        operands = [c.constant(nodes), limits, c.constant(roots)]
        operands += [c.constant(np.array(self.targets, np.int32)), weights, offsets]
        return c.add(TreeSums(aggregate, modes), x, *operands)


def numbers(c: Call, name: str) -> Array:
    """A list attribute, which may be given as a tensor too."""
    tensor = c.attr(f"{name}_as_tensor")
    if tensor is not None:
        return c.importer.array(tensor)
    return np.array(c.attr(name) or [], np.float32)


def listed_forest(c: Call, prefix: str) -> Forest:
    """The trees of the operators up to version 3: nodes by tree and number; the weights of leaves apart."""
    trees, ids = list(c.attr("nodes_treeids") or []), list(c.attr("nodes_nodeids") or [])
    keys = list(zip(trees, ids, strict=True))
    weights: dict[tuple[int, int], list[tuple[int, float]]] = {}
    owners = zip(c.attr(f"{prefix}_treeids"), c.attr(f"{prefix}_nodeids"), strict=True)
    given = zip(c.attr(f"{prefix}_ids"), numbers(c, f"{prefix}_weights").tolist(), strict=True)
    for key, entry in zip(owners, given, strict=True):
        weights.setdefault(key, []).append(entry)
    tracks = c.attr("nodes_missing_value_tracks_true") or [0] * len(keys)
    values = numbers(c, "nodes_values").tolist()
    forest, place = Forest(), {}
    for k, (key, mode) in enumerate(zip(keys, c.attr("nodes_modes"), strict=True)):
        if mode == "LEAF":
            place[key] = forest.leaf(weights.get(key, []))
            continue
        if mode not in BRANCHES:
            raise Rejected(f"a node of mode {mode!r} is not supported")
        code = BRANCHES[mode] + (TRACKS_MISSING if tracks[k] else 0)
        place[key] = forest.branch(c.attr("nodes_featureids")[k], code, values[k])
    for k, key in enumerate(keys):
        if c.attr("nodes_modes")[k] != "LEAF":
            ways = (c.attr(f"nodes_{way}nodeids")[k] for way in ("true", "false"))
            forest.lead(place[key], *(place[key[0], way] for way in ways))
    first: dict[int, int] = {}
    for key in keys:
        first.setdefault(key[0], place[key])
    forest.roots = [first[tree] for tree in sorted(first)]
    return forest


def regressor(c: Call) -> str:
    """TreeEnsembleRegressor, versions 1 and 3."""
    forest = listed_forest(c, "target")
    kind = c.attr("aggregate_function", "SUM")
    count = int(c.attr("n_targets", 1))
    base = numbers(c, "base_values")
    base = np.zeros(count, np.float32) if not base.size else base
    if len(base) != count:
        raise Rejected(f"has {len(base)} base values for {count} targets")
    if kind == "AVERAGE":
        forest.weights = [w / len(forest.roots) for w in forest.weights]
    aggregate = {"SUM": "sum", "AVERAGE": "sum", "MIN": "min", "MAX": "max"}[kind]
    result = forest.sums(c, aggregate, base)
    return c.cast(transformed(c, result, c.attr("post_transform", "NONE")), DType.float32)


def classifier(c: Call) -> tuple[str, str]:
    """TreeEnsembleClassifier, versions 1 and 3: labels and scores."""
    labels = labels_of(c, "classlabels_int64s", "classlabels_strings")
    forest = listed_forest(c, "class")
    classes = sorted(set(forest.targets))
    post = c.attr("post_transform", "NONE")
    base = numbers(c, "base_values")
    if len(labels) == 2 and len(classes) == 1:
        forest.targets = [0] * len(forest.targets)
        positive = min(forest.weights, default=0.0) >= 0
        start = base[-1:] if base.size else np.zeros(1, np.float32)
        score = c.cast(forest.sums(c, "sum", start), DType.float32)
        return two_classes(c, score, labels, positive, post)
    base = np.zeros(len(labels), np.float32) if not base.size else base
    if len(base) != len(labels):
        raise Rejected(f"has {len(base)} base values for {len(labels)} classes")
    scores = c.cast(forest.sums(c, "sum", base), DType.float32)
    return chosen_label(c, scores, labels), transformed(c, scores, post)


def ensemble(c: Call) -> str:
    """TreeEnsemble, version 5: leaves by themselves, and tests for membership in a set."""
    modes = c.importer.array(c.attr("nodes_modes")).tolist()
    splits = c.importer.array(c.attr("nodes_splits"))
    tracks = c.attr("nodes_missing_value_tracks_true") or [0] * len(modes)
    members = sets_of(c)
    forest, kind = Forest(), int(c.attr("aggregate_function", 1))
    weights = c.importer.array(c.attr("leaf_weights")).tolist()
    leaves = [forest.leaf([e]) for e in zip(c.attr("leaf_targetids"), weights, strict=True)]
    chains: list[list[int]] = []
    for k, mode in enumerate(modes):
        feature, missing = c.attr("nodes_featureids")[k], TRACKS_MISSING if tracks[k] else 0
        tests = members[k] if mode == MEMBER else [splits[k]]
        code = (MODES.index("eq") if mode == MEMBER else mode) + missing
        chains.append([forest.branch(feature, code, v) for v in tests])
        if not tests:
            raise Rejected("tests for membership in an empty set")
    for k, chain in enumerate(chains):
        yes, no = (way_of(c, k, way, chains, leaves) for way in ("true", "false"))
        for node, following in zip(chain, [*chain[1:], no], strict=True):
            forest.lead(node, yes, following)
    forest.roots = [root_of(c, r, chains, leaves) for r in c.attr("tree_roots")]
    if kind == 0:
        forest.weights = [w / len(forest.roots) for w in forest.weights]
    base = np.zeros(int(c.attr("n_targets", 1)))
    result = forest.sums(c, ("sum", "sum", "min", "max")[kind], base)
    names = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
    return transformed(c, result, names[int(c.attr("post_transform", 0))])


def way_of(c: Call, k: int, way: str, chains: list[list[int]], leaves: list[int]) -> int:
    to = int(c.attr(f"nodes_{way}nodeids")[k])
    return leaves[to] if c.attr(f"nodes_{way}leafs")[k] else chains[to][0]


def root_of(c: Call, root: int, chains: list[list[int]], leaves: list[int]) -> int:
    """A tree's first node; a tree that is one leaf has a node that leads to it both ways."""
    ways = [int(c.attr(f"nodes_{way}nodeids")[root]) for way in ("true", "false")]
    alone = all(c.attr(f"nodes_{way}leafs")[root] for way in ("true", "false"))
    return leaves[ways[0]] if alone and ways[0] == ways[1] else chains[root][0]


def sets_of(c: Call) -> dict[int, list[Any]]:
    """The members of each node's set: one set after the other, with a NaN behind each, in the order of the nodes."""
    modes = c.importer.array(c.attr("nodes_modes")).tolist()
    given = c.attr("membership_values")
    values = [] if given is None else c.importer.array(given).tolist()
    found: list[list[Any]] = [[]]
    for value in values:
        if value != value:
            found.append([])
        else:
            found[-1].append(value)
    testing = [k for k, mode in enumerate(modes) if mode == MEMBER]
    if len(found) - 1 != len(testing):
        raise Rejected(f"has {len(found) - 1} sets of members for {len(testing)} nodes")
    return dict(zip(testing, found, strict=False))


RULES: dict[str, Rule] = {
    "TreeEnsemble": ensemble,
    "TreeEnsembleClassifier": classifier,
    "TreeEnsembleRegressor": regressor,
}
