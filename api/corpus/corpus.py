"""The corpus that is served: names and modules of the premises, and how clients number them.

Three number spaces, kept apart by name: a *wire index* is a position in `/indexed-premises` (all declarations, in data
order, duplicates kept); a *row* is a premise of one segment (declarations that the filter left, in data order); a
*premise id* is a row plus the base of its segment.
"""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from api.corpus.reader import ReadCorpus
from api.search.premise_set import PremiseMask
from api.search.segments import id_ranges


@dataclass(frozen=True)
class SegmentCorpus:
    """Names and modules of one segment, read-only. n premises, w declarations, m modules."""

    revision: str
    module_names: list[str]
    """Sorted. Length m."""
    wire_names: list[str]
    """Every declaration. Length w."""
    names: list[str]
    """By row. Length n."""
    wire_row: NDArray[np.int64]
    """Row of the name at a position in `wire_names`, -1 if the filter removed that name. [w]"""
    module_start: NDArray[np.int64]
    """Premises of module i are module_start[i]:module_stop[i]: a module is one file, so its rows are contiguous. [m]"""
    module_stop: NDArray[np.int64]
    needs_import_all: NDArray[np.bool_]
    """In the module system, neither theorem nor exposed: visible only after `import all`. [n]"""
    rows: dict[str, int]
    """By name."""

    @classmethod
    def of(cls, read: ReadCorpus) -> "SegmentCorpus":
        """The served form of a corpus that was just read."""
        return cls(
            revision=read.revision,
            module_names=read.module_names,
            wire_names=read.wire_names,
            names=read.names,
            wire_row=read.wire_premise,
            module_start=read.module_start,
            module_stop=read.module_stop,
            needs_import_all=read.needs_import_all,
            rows=read.premise_ids,
        )


@dataclass(frozen=True)
class Corpus:
    """The premises of one or several segments, read-only. p premise ids, w declarations, m modules, s segments.

    A name in a later segment stands for the same name in an earlier one: requests never find the earlier premise.
    """

    revision: str
    """The segments' names for themselves, joined by +."""
    module_names: list[str]
    """`/indexed-modules` answers them: those of the first segment, sorted; then the new ones of each later segment,
    sorted. Length m."""
    wire_names: list[str]
    """`/indexed-premises` answers them: those of the first segment, then those of each later segment. Length w."""
    names: list[str]
    """By premise id; empty where an id belongs to no premise. Length p."""
    served: PremiseMask
    """Ids of premises that requests find. [p]"""
    wire_premise: NDArray[np.int64]
    """Premise id of the name at a wire index, -1 if no premise has that name. [w]"""
    module_start: NDArray[np.int64]
    """Premises of module i in segment j are module_start[j, i]:module_stop[j, i]. [s, m]"""
    module_stop: NDArray[np.int64]
    needs_import_all: NDArray[np.bool_]
    """In the module system, neither theorem nor exposed: visible only after `import all`. [p]"""
    module_ids: Mapping[str, int]
    premise_ids: Mapping[str, int]
    """By name."""
    ranges: list[range]
    """Premise ids of each segment."""

    def __len__(self) -> int:
        """The number of premises that requests find."""
        return int(np.count_nonzero(self.served))

    @classmethod
    def of(cls, segments: Sequence[SegmentCorpus]) -> "Corpus":
        """The segments as one corpus. With one segment nothing is copied that is long, and no name is looked up."""
        ranges = id_ranges([len(segment.names) for segment in segments])
        module_names = _module_names(segments)
        module_ids = {name: i for i, name in enumerate(module_names)}
        module_start, module_stop = _module_edges(segments, ranges, module_names)
        premise_ids = _premise_ids(segments, ranges)
        stand_ins = _stand_ins(segments, ranges, premise_ids)
        served = np.zeros(ranges[-1].stop, np.bool_)
        needs_import_all = np.zeros(ranges[-1].stop, np.bool_)
        for segment, ids in zip(segments, ranges, strict=True):
            own = slice(ids.start, ids.stop)
            served[own] = stand_ins[own] == np.arange(ids.start, ids.stop)
            needs_import_all[own] = segment.needs_import_all
        served.flags.writeable = False  # every request without lists reads this very array
        return cls(
            revision="+".join(segment.revision for segment in segments if segment.revision),
            module_names=module_names,
            wire_names=_wire_names(segments),
            names=_names(segments, ranges),
            served=served,
            wire_premise=_wire_premise(segments, ranges, stand_ins, premise_ids),
            module_start=module_start,
            module_stop=module_stop,
            needs_import_all=needs_import_all,
            module_ids=module_ids,
            premise_ids=premise_ids,
            ranges=ranges,
        )


def _module_names(segments: Sequence[SegmentCorpus]) -> list[str]:
    """A module that a segment lists twice has two positions; one that an earlier segment has gets none."""
    names: list[str] = []
    for segment in segments:
        known = set(names)
        names += [name for name in segment.module_names if name not in known]
    return names


def _premise_ids(segments: Sequence[SegmentCorpus], ranges: Sequence[range]) -> Mapping[str, int]:
    """By name, the last segment that has it first. The first segment's rows are its ids: they are not copied."""
    later = [
        {name: ids.start + row for name, row in segment.rows.items()}
        for segment, ids in zip(segments[1:], ranges[1:], strict=True)
    ]
    return ChainMap(*reversed(later), segments[0].rows) if later else segments[0].rows


def _stand_ins(
    segments: Sequence[SegmentCorpus], ranges: Sequence[range], premise_ids: Mapping[str, int]
) -> NDArray[np.int64]:
    """The premise id that requests find under the name of each premise id: its own, or that of a later segment. [p]"""
    stand_ins = np.arange(ranges[-1].stop)
    for i, (segment, ids) in enumerate(zip(segments, ranges, strict=True)):
        for later in segments[i + 1 :]:
            for name in segment.rows.keys() & later.rows.keys():
                stand_ins[ids.start + segment.rows[name]] = premise_ids[name]
    return stand_ins


def _wire_premise(
    segments: Sequence[SegmentCorpus],
    ranges: Sequence[range],
    stand_ins: NDArray[np.int64],
    premise_ids: Mapping[str, int],
) -> NDArray[np.int64]:
    parts = []
    for segment, ids in zip(segments, ranges, strict=True):
        premises = np.where(segment.wire_row < 0, -1, stand_ins[segment.wire_row + ids.start])
        if len(segments) > 1:  # what one segment's filter removes may be a premise of another
            for i in np.flatnonzero(premises < 0).tolist():
                premises[i] = premise_ids.get(segment.wire_names[i], -1)
        parts.append(premises)
    return np.concatenate(parts)


def _module_edges(
    segments: Sequence[SegmentCorpus], ranges: Sequence[range], module_names: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The premise ids at which each module starts and stops; 0 in a segment without that module. [s, m] each"""
    start, stop = np.zeros((2, len(segments), len(module_names)), np.int64)
    for i, (segment, ids) in enumerate(zip(segments, ranges, strict=True)):
        places = {name: place for place, name in enumerate(segment.module_names)}
        own = np.array([places.get(name, -1) for name in module_names], np.int64)
        there = own >= 0
        start[i, there] = segment.module_start[own[there]] + ids.start
        stop[i, there] = segment.module_stop[own[there]] + ids.start
    return start, stop


def _names(segments: Sequence[SegmentCorpus], ranges: Sequence[range]) -> list[str]:
    if len(segments) == 1:
        return segments[0].names
    names = [""] * ranges[-1].stop
    for segment, ids in zip(segments, ranges, strict=True):
        names[ids.start : ids.stop] = segment.names
    return names


def _wire_names(segments: Sequence[SegmentCorpus]) -> list[str]:
    if len(segments) == 1:
        return segments[0].wire_names
    return list(chain.from_iterable(segment.wire_names for segment in segments))
