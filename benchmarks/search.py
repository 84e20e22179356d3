"""`make bench-search`: exact top-k over a subset, next to the old server's algorithm and the memory's own speed.

    SIZES=121585,382212,1000000   premises; sizes that do not fit into half of the free memory are left out, and said so

Vectors are embeddings of real text (the demo corpus through the small real model, spread to 768 dimensions) with noise
around each, as in `benchmarks.synthetic`; queries are drawn the same way. Purely random vectors would not do: their
scores lie so close together that the quantised scan cannot be certified, which no real embeddings show.

The peer is the old server's algorithm as it was described: names of the accessible premises in a set, the set into a
list of ids, `IDSelectorArray` in that order, flat search. The floor is what reading the bytes once takes at the
bandwidth measured in the same run, for the float32 and the eight-bit rows. The second table searches the same rows as
one segment and as two and three.
"""

import os
import time
from collections.abc import Callable

import faiss
import numpy as np
import psutil
from numpy.typing import NDArray
from rich.console import Console

from api.search.index import PremiseIndex, Search, rows_of
from api.search.premise_set import PremiseMask, PremiseSet
from api.search.quantised_index import QuantisedIndex, quantise
from api.search.segments import SegmentedIndex, id_ranges
from benchmarks.synthetic import DIMENSION, NOISE, real_bases
from shared.vectors import Vectors
from tests.support.report import print_machine, table

SIZES = "121585,382212,1000000"
COVERAGES = (0.99, 0.5, 0.02)
KS = (16, 256, 1024)
QUERIES = 30
OLD_RUNS = 3
CUTS = {"1": (), "2": (0.99,), "3": (0.9, 0.99)}
"""Where the rows are cut into segments: a large one and small ones on top of it."""
BYTES_PER_PREMISE = DIMENSION * 4 * 2 + DIMENSION  # built from rows that are still there, and the eight-bit copy


def around(bases: Vectors, count: int, rng: np.random.Generator) -> Vectors:
    """Unit vectors [count, 768], each near one of the bases."""
    rows = np.empty((count, DIMENSION), np.float32)
    for start in range(0, count, 20_000):
        part = rows[start : start + 20_000]
        noise = rng.standard_normal(part.shape, dtype=np.float32)
        noise *= NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
        part[:] = bases[rng.integers(0, len(bases), len(part))] + noise
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def old_search(
    names: list[str], ids: dict[str, int], flat: "faiss.IndexFlatIP", mask: NDArray[np.bool_], state: Vectors, k: int
) -> None:
    accessible = {names[i] for i in np.flatnonzero(mask).tolist()}
    chosen = np.array([ids[name] for name in accessible], np.int64)
    flat.search(state.reshape(1, -1), k, params=faiss.SearchParameters(sel=faiss.IDSelectorArray(chosen)))


def times_ms(call: Callable[[int], object], runs: int) -> list[float]:
    took = []
    for i in range(runs):
        start = time.perf_counter()
        call(i)
        took.append(1000 * (time.perf_counter() - start))
    return took


def bandwidth(rows: Vectors) -> float:
    """Bytes per second of reading rows once, one thread, best of three."""
    best = min(times_ms(lambda _: faiss.fvec_norm_L2sqr(faiss.swig_ptr(rows), rows.size), 3))
    return rows.nbytes / (best / 1000)


def measure(count: int, bases: Vectors) -> list[tuple[object, ...]]:
    rng = np.random.default_rng(count)
    rows = around(bases, count, rng)
    states = around(bases, QUERIES, rng)
    flat = faiss.IndexFlatIP(DIMENSION)
    flat.add(rows)
    index = SegmentedIndex([PremiseIndex(rows_of(flat), QuantisedIndex(*quantise(rows)))])
    floor_fp32 = 1000 * rows.nbytes / bandwidth(rows)
    del rows
    names = [f"Mathlib.Module.theorem_{i}" for i in range(count)]
    ids = {name: i for i, name in enumerate(names)}
    lines: list[tuple[object, ...]] = []
    for coverage in COVERAGES:
        mask = rng.random(count) < coverage
        accessible = PremiseSet.of(mask)
        for k in KS:
            hits = [index.search([Search(state, accessible, k)])[0] for state in states[:QUERIES]]
            share = f"{1 - np.mean([found.widened for found in hits]):.0%}"
            ours = times_ms(lambda i: index.search([Search(states[i], accessible, k)]), QUERIES)  # noqa: B023  # called at once
            old = times_ms(lambda i: old_search(names, ids, flat, mask, states[i], k), OLD_RUNS)  # noqa: B023
            median, old_median = float(np.median(ours)), float(np.median(old))
            lines.append(
                (count, f"{coverage:.0%}", k, median, float(np.percentile(ours, 99)), old_median, old_median / median,
                 share, floor_fp32 * coverage, floor_fp32 * coverage / 4)
            )  # fmt: skip
    return lines


def measure_segments(count: int, bases: Vectors) -> list[tuple[object, ...]]:
    """The same rows as one segment and cut into several."""
    rng = np.random.default_rng(count)
    rows = around(bases, count, rng)
    states = around(bases, QUERIES, rng)
    mask = rng.random(count) < COVERAGES[0]
    lines: list[tuple[object, ...]] = []
    for segments, shares in CUTS.items():
        cuts = [int(count * share) for share in shares]
        index = SegmentedIndex([PremiseIndex.of(part) for part in np.split(rows, cuts)])
        accessible = PremiseSet.of(spread(mask, cuts))
        for k in KS:
            for state in states:
                index.search([Search(state, accessible, k)])
            took = times_ms(lambda i: index.search([Search(states[i], accessible, k)]), QUERIES)  # noqa: B023  # called at once
            lines.append((count, segments, k, float(np.median(took)), float(np.percentile(took, 99))))
    return lines


def spread(mask: PremiseMask, cuts: list[int]) -> PremiseMask:
    """A mask of rows as one of premise ids, of the segments that the cuts make."""
    parts = np.split(mask, cuts)
    ranges = id_ranges([len(part) for part in parts])
    by_id = np.zeros(ranges[-1].stop, np.bool_)
    for ids, part in zip(ranges, parts, strict=True):
        by_id[ids.start : ids.stop] = part
    return by_id


def main() -> None:
    console = Console(width=130)
    faiss.omp_set_num_threads(1)
    print_machine(console, "faiss-cpu", "numpy")
    bases = real_bases()
    lines: list[tuple[object, ...]] = []
    cut: list[tuple[object, ...]] = []
    for size in map(int, os.environ.get("SIZES", SIZES).split(",")):
        if size * BYTES_PER_PREMISE > psutil.virtual_memory().available / 2:
            console.print(f"{size} premises left out: they do not fit into half of the free memory")
            continue
        lines += measure(size, bases)
        cut += measure_segments(size, bases)
    columns = ("premises", "covered", "k", "p50 ms", "p99 ms", "old p50 ms", "ratio", "certified", "fp32 floor ms",
               "int8 floor ms")  # fmt: skip
    console.print(table("Exact search, one thread", columns, lines))
    title = f"The same rows in several segments, {COVERAGES[0]:.0%} covered"
    console.print(table(title, ("premises", "segments", "k", "p50 ms", "p99 ms"), cut))


if __name__ == "__main__":
    main()
