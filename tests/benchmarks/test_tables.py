"""What the benchmark's table says of its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.chart import write_chart
from benchmarks.contenders import CONTENDERS, environment
from benchmarks.layers import kind_of
from benchmarks.tables import (
    cell,
    distance,
    fallen,
    layers_table,
    means,
    narrow_section,
    notes,
    ratios,
    streams,
    table_of,
    verdict,
)


def row(contender: str, milliseconds: float | None, error: float = 1e-6) -> dict[str, Any]:
    found: dict[str, Any] = {"network": "Net", "batch": 1, "threads": 1, "contender": contender, "error": error,
                             "failure": "", "medians": []}  # fmt: skip
    if milliseconds is not None:
        found |= {
            "medians": [milliseconds],
            "milliseconds": milliseconds,
            "spread": 0.02,
            "peak_share": 0.5,
        }
    return found


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (10.4, "tie with b"),
        (9.6, "tie with b"),
        (5.0, "2.00x as fast as b"),
        (20.0, "b 2.00x as fast"),
    ],
)
def test_verdict_is_against_the_fastest(ours: float, expected: str) -> None:
    peers = [row("a", 30.0), row("b", 10.0), row("c", None)]
    assert verdict(row("convc", ours), peers) == expected


def test_overlapping_processes_decide_nothing() -> None:
    ours, theirs = row("convc", 10.0), row("a", 20.0)
    ours["medians"], theirs["medians"] = [9.0, 10.0, 30.0], [19.0, 20.0, 21.0]
    ours["spread"] = 2.0
    assert verdict(ours, [theirs]) == "unclear against a"
    ours["medians"] = [9.0, 10.0, 18.9]
    assert verdict(ours, [theirs]) == "2.00x as fast as a"


def test_errors_past_the_limit_are_marked() -> None:
    assert cell(row("convc", 3.0, 2e-5)) == "3 ±2%!"
    assert cell(row("a", 3.0, 2e-5)) == "3 ±2%"
    results = [row("convc", 3.0, 2e-5), row("a", 3.0, 2e-4), row("b", 3.0, 2e-5)]
    assert notes(results, {"absent": {"d": "dd"}}) == [
        "d did not take part: dd is not installed",
        "Net, batch 1, 1 threads, convc: error 2.0e-05 is above 1e-05",
        "Net, batch 1, 1 threads, a: error 2.0e-04 is above 1e-04",
    ]


def test_a_contender_without_figures_has_a_dash() -> None:
    _, lines = table_of([row("convc", 3.0), row("a", None)])
    assert lines == [["Net", "1", "1", "3 ±2%", "-", "", "50%", "1.0e-06"]]


def test_a_peer_whose_results_are_wrong_is_not_counted() -> None:
    peers = [row("a", 1.0, 1e-2), row("b", 10.0)]
    assert verdict(row("convc", 5.0), peers) == "2.00x as fast as b"


def test_our_own_wrong_results_are_not_counted() -> None:
    ours, peers = row("convc", 5.0, 1e-2), [row("b", 10.0)]
    assert verdict(ours, peers) == "not counted"
    assert ratios([ours, *peers]) == {}


def test_a_line_that_fell_is_named() -> None:
    before = [row("convc", 5.0), row("a", 10.0)]
    assert fallen([row("convc", 5.2), row("a", 10.0)], before) == []
    assert fallen([row("convc", 8.0), row("a", 10.0)], before) == [
        "FELL: Net, batch 1, 1 threads: 1.25x the best, it was 2.00x"
    ]


def test_means_are_geometric() -> None:
    other = [r | {"network": "B"} for r in (row("convc", 2.0), row("a", 1.0))]
    results = [row("convc", 5.0), row("a", 10.0), *other]
    (text,) = means(results)
    assert "1.00x" in text
    assert "0.50x on the least" in text


def test_the_chart_is_well_formed(tmp_path: Path) -> None:
    path = tmp_path / "chart.svg"
    write_chart(path, ratios([row("convc", 5.0), row("a", 10.0)]))
    texts = [e.text for e in ElementTree.parse(path).iter() if e.tag.endswith("text")]
    assert texts[:2] == ["Net, 1 thread", "2.00x"]


def test_long_names_fit_into_the_chart(tmp_path: Path) -> None:
    path = tmp_path / "chart.svg"
    write_chart(path, {("A network of a long name, with more", 128, 2): 2.0})
    (label, *_) = (e for e in ElementTree.parse(path).iter() if e.tag.endswith("text"))
    assert float(label.get("x", 0)) >= 7 * len(label.text or "")


def test_an_instruction_set_is_set_for_those_that_heed_it() -> None:
    assert environment(2)["OMP_NUM_THREADS"] == "2"
    limited = environment(1, "openvino", "avx2")
    assert limited["ONEDNN_MAX_CPU_ISA"] == limited["OV_CPU_MAX_ISA"] == "AVX2"
    assert "ONEDNN_MAX_CPU_ISA" not in environment(1, "openvino")
    assert not CONTENDERS["ncnn"].isa


def test_the_narrow_section_says_what_was_set() -> None:
    facts = {"isa": "avx2", "target": "x86-64-avx2", "date": "today", "absent": {}}
    text = "\n".join(
        narrow_section({"machine": facts, "results": [row("convc", 5.0), row("a", 10.0)]})
    )
    assert text.startswith("## Kept to AVX2")
    assert "2.00x as fast as a" in text


def test_layers_of_a_network_stand_under_its_name_once() -> None:
    layers = [
        {"kind": "conv2d", "bound": "maps in L3", "time_share": 0.25, "share_of_peak": 0.5},
        {"kind": "concat", "bound": "maps in L2", "time_share": 0.05, "share_of_peak": 0.0},
        {"kind": "all", "bound": "", "time_share": 1.0, "share_of_peak": 0.8},
    ]
    assert layers_table({"Net": layers})[2:] == [
        "| Net | 80% | maps in L3 | conv2d | 25% | 50% |",
        "|  |  | maps in L2 | concat | 5% | - |",
    ]


def test_kinds_of_kernels() -> None:
    assert kind_of("conv2d + add + relu", "tiled") == "conv2d"
    assert kind_of("conv2d + add", "lanes") == "depthwise conv2d"
    assert kind_of("mul + conv2d + add", "tiled") == "scaled conv2d"
    assert kind_of("winograd_input", "pointwise") == "winograd_input"


def test_figures_of_two_threads_say_how_far_the_cpus_were_apart() -> None:
    apart = row("convc", 10) | {
        "threads": 2,
        "medians": [10.0, 10.0, 11.0],
        "round_trips": [1e-7, 9e-8, 4e-7],
    }
    near = row("other", 20) | {"threads": 2, "medians": [20.0], "round_trips": [8e-8]}
    alone = row("convc", 19) | {"round_trips": []}
    _, (first, second) = table_of([alone, apart, near])
    assert (first[2], second[2]) == ("1", "2 (1/4 far)")
    (said,) = distance([alone, apart, near])
    assert "took 95 ns from one CPU to another and back (80 ns to 400 ns)" in said
    assert "In 1 of 4" in said
    assert "convc took 1.10 times as long (lines that had both: 1)" in said
    assert distance([alone]) == []
    assert distance([row("convc", 10)]) == []  # kept from before this was measured


def test_layers_bound_by_memory_gain_what_memory_gives_two_threads() -> None:
    (said,) = streams({"streaming": [[1, 40e9], [2, 54e9]], "streaming_round_trip": 95e-9})
    assert "40 GB/s to 1 thread and 54 GB/s to 2 threads" in said
    assert "at 95 ns" in said
    assert "at most 1.35 times as fast" in said
    assert "times as fast" not in streams({"streaming": [[1, 40e9]]})[0]
    assert streams({}) == []
