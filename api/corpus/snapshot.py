"""Segments that are served together as one corpus. Growing makes another snapshot, of another tuple of segments."""

from collections.abc import Sequence
from dataclasses import dataclass

from api.corpus.corpus import Corpus
from api.corpus.declarations_file import Declarations
from api.corpus.names_file import NamesFile
from api.corpus.segment import Segment
from api.search.segments import SegmentedIndex


@dataclass(frozen=True)
class Snapshot:
    """One or several segments as one. It does not own them: whoever opened a segment closes it."""

    corpus: Corpus
    index: SegmentedIndex
    declarations: Declarations
    premises_file: NamesFile
    modules_file: NamesFile

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> "Snapshot":
        """Several segments take a second per half a million names, which are serialised and compressed anew."""
        corpus = Corpus.of([segment.corpus for segment in segments])
        alone = len(segments) == 1
        return cls(
            corpus=corpus,
            index=SegmentedIndex([segment.index for segment in segments]),
            declarations=Declarations(
                [segment.declarations for segment in segments], corpus.ranges, corpus.premise_ids
            ),
            premises_file=segments[0].premises_file if alone else NamesFile.of(corpus.wire_names),
            modules_file=segments[0].modules_file if alone else NamesFile.of(corpus.module_names),
        )
