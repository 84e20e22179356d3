"""Exact inner-product search over several segments as if they were one index.

A premise id is the base of its segment plus its row. Every segment has its own rounding, so its own bounds; a bound
says how high a premise can score, which means the same in every segment. So one threshold, the k-th best score that
was found, decides for all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from api.search.index import Hits, PremiseIds, PremiseIndex, Search, inner_products
from api.search.quantised_index import BLOCK, QuantisedIndex, RoundedQuery
from shared.vectors import Vectors

ALIGNED = 8
"""Bases are multiples of it, so a segment's ids begin with a whole byte of a bit set."""
SUM_ERROR = 1e-5
"""Two float32 sums of 768 products of unit vectors differ by less: each is off by at most d/16 * 2^-24 * 2."""
LEAST_CANDIDATES = 64
"""Of a block; fewer save nothing, and leave more blocks to be scanned again."""
CANDIDATES_PER_K = 8
"""Of all blocks together."""
SECOND_TIME = 8
"""The second scan of a block returns so many times the candidates of the first, which did not prove enough."""


def id_ranges(counts: Sequence[int]) -> list[range]:
    """The premise ids of segments with so many rows. Ids between two ranges belong to no premise."""
    ranges: list[range] = []
    for count in counts:
        base = -(-ranges[-1].stop // ALIGNED) * ALIGNED if ranges else 0
        ranges.append(range(base, base + count))
    return ranges


class SegmentedIndex:
    """The premises of one or several segments. Searches may run in many threads at once."""

    def __init__(self, segments: Sequence[PremiseIndex]) -> None:
        self._segments = tuple(segments)
        self._ranges = id_ranges([segment.count for segment in segments])
        self._blocks = [
            _Block(segment, number, ids[start : start + BLOCK])
            for segment, ids in enumerate(self._ranges)
            for number, start in enumerate(range(0, len(ids), BLOCK))
        ]

    def search(self, searches: Sequence[Search]) -> list[Hits]:
        """The answers, in order. Together they take less time than one by one: a block is read from memory once.

        Raises:
            ValueError: a segment is closed.
        """
        # A segment that is closed meanwhile stays in memory until its parts are let go here.
        parts = [segment.parts() for segment in self._segments]
        segments = [_Segment(ids, *part) for ids, part in zip(self._ranges, parts, strict=True)]
        scans = [_Scan(search, segments, self._blocks) for search in searches]
        for number in range(len(self._blocks)):
            for scan in scans:
                scan.read(number)
        return [scan.hits() for scan in scans]


@dataclass(frozen=True)
class _Block:
    """Rows that lie side by side in one segment."""

    segment: int
    number: int
    """Counts the blocks of its segment."""
    ids: range


@dataclass(frozen=True)
class _Segment:
    """One segment during a search."""

    ids: range
    rows: Vectors
    quantised: QuantisedIndex


@dataclass(frozen=True)
class _Candidates:
    """The likeliest premises of one block, best first."""

    ids: PremiseIds
    at_most: NDArray[np.float64]
    """The highest score that each can have. No other accessible premise of the block can score higher than the last."""


class _Scan:
    """One search on its way through the blocks."""

    def __init__(self, search: Search, segments: Sequence[_Segment], blocks: Sequence[_Block]) -> None:
        self._search = search
        self._segments = segments
        self._blocks = blocks
        counts = [search.accessible.counts(segment.ids, BLOCK) for segment in segments]
        self._counts: list[int] = np.concatenate(counts).tolist()
        """Accessible premises of each block."""
        self._k = min(search.k, search.accessible.count)
        used = max(1, sum(count > 0 for count in self._counts))
        self._most = max(LEAST_CANDIDATES, -(-CANDIDATES_PER_K * self._k // used))
        self._queries: dict[int, RoundedQuery] = {}
        """The state as each segment rounds it."""
        self._few: list[PremiseIds] = []
        """All accessible premises of blocks that have few."""
        self._found: dict[int, _Candidates] = {}
        """The likeliest premises of the other blocks, by block."""

    def read(self, number: int) -> None:
        """Read one block."""
        count = self._counts[number] if self._k > 0 else 0
        if count == 0:
            return
        if count <= self._most:
            self._few.append(self._accessible(number))
        else:
            self._found[number] = self._candidates(number, self._most)

    def hits(self) -> Hits:
        """The answer, after every block was read."""
        least = self._least()
        possible = list(self._few)
        widened = False
        for number, found in self._found.items():
            if found.at_most[-1] >= least:  # so may a premise that was left out
                widened = True
                found = self._candidates(number, min(SECOND_TIME * self._most, self._counts[number]))
            whole = found.at_most[-1] >= least and len(found.ids) < self._counts[number]
            possible.append(self._accessible(number) if whole else found.ids[found.at_most >= least])
        return replace(self._scored(possible), widened=widened)

    def _least(self) -> float:
        """A score that each of the k best reaches: the k likeliest premises do, so the k best do."""
        ids = np.concatenate([np.empty(0, np.int64), *(found.ids for found in self._found.values())])
        at_most = np.concatenate([np.empty(0), *(found.at_most for found in self._found.values())])
        likely = ids[np.argpartition(-at_most, self._k - 1)[: self._k]] if len(ids) > self._k > 0 else ids
        known = self._scored([likely, *self._few])
        return float(known.scores[-1]) - SUM_ERROR if len(known.ids) == self._k > 0 else -np.inf

    def _candidates(self, number: int, count: int) -> _Candidates:
        """The likeliest `count` accessible premises of a block."""
        block = self._blocks[number]
        quantised = self._segments[block.segment].quantised
        if block.segment not in self._queries:
            self._queries[block.segment] = quantised.query(self._search.state)
        selector = self._search.accessible.selector(block.ids)
        rows, at_most = quantised.best(block.number, self._queries[block.segment], selector, count)
        return _Candidates(rows + block.ids.start, at_most)

    def _scored(self, parts: Sequence[PremiseIds]) -> Hits:
        """The k best of those premises."""
        ids = np.sort(np.concatenate([np.empty(0, np.int64), *parts]))  # the order of memory
        bases = [segment.ids.start for segment in self._segments]
        by_segment = np.split(ids, np.searchsorted(ids, bases[1:]))
        scores = np.concatenate([
            inner_products(self._search.state, segment.rows, some - segment.ids.start)
            for segment, some in zip(self._segments, by_segment, strict=True)
        ])  # fmt: skip
        order = np.argsort(-scores, kind="stable")[: self._k]  # equal scores stay in the order of their ids
        return Hits(ids[order], scores[order])

    def _accessible(self, number: int) -> PremiseIds:
        return self._search.accessible.ids(self._blocks[number].ids)
