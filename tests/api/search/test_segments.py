"""The answer of a search has the bytes of scoring every accessible premise, however many segments the rows are in."""

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from api.corpus.reader import ReadCorpus
from api.search.index import Hits, PremiseIndex, Search, inner_products
from api.search.premise_set import PremiseMask, PremiseSet
from api.search.quantised_index import BLOCK
from api.search.segments import LEAST_CANDIDATES, SegmentedIndex, id_ranges
from shared.model.directory import ModelDirectory
from shared.settings import Settings
from shared.vectors import Vector, Vectors
from worker.engine.encoder import TorchEncoder

COUNT, DIMENSION = 20_000, 32  # several blocks, the last one shorter


def unit(rows: NDArray[np.floating[Any]]) -> Vectors:
    made: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return made


def clustered(noise: float) -> Vectors:
    rng = np.random.default_rng(3)
    centres = unit(rng.standard_normal((40, DIMENSION)).astype(np.float32))
    return unit(centres[rng.integers(0, 40, COUNT)] + noise * unit(rng.standard_normal((COUNT, DIMENSION))))


def duplicates() -> Vectors:
    """Every row some thirty times, so that ties reach over any k."""
    rng = np.random.default_rng(4)
    return unit(rng.standard_normal((200, DIMENSION)))[rng.integers(0, 200, COUNT)]


def nearly_equal() -> Vectors:
    """Scores that differ in their last bits only."""
    rng = np.random.default_rng(5)
    base = unit(rng.standard_normal((1, DIMENSION)))
    return unit(base + 1e-6 * rng.standard_normal((COUNT, DIMENSION)))


def outlier() -> Vectors:
    """One row far from all others stretches the steps of the rounding."""
    rows = nearly_equal()
    rows[17] = -rows[17]
    return rows


def halves() -> Vectors:
    """A tight first half and a loose second one: where a segment begins between them, the roundings differ."""
    rows = clustered(2.0)
    centre = rows[:1].copy()
    rows[: COUNT // 2] = unit(centre + 0.05 * clustered(2.0)[: COUNT // 2])
    return rows


DATA = {
    "clustered": clustered(0.3),
    "loose": clustered(2.0),
    "duplicates": duplicates(),
    "nearly equal": nearly_equal(),
    "outlier": outlier(),
    "halves": halves(),
}


Cuts = tuple[int, ...]
"""Rows at which a new segment begins."""


class Segments:
    """Rows [n, d] that are cut into segments, and the one index over them."""

    def __init__(self, rows: Vectors, cuts: Cuts) -> None:
        parts = np.split(rows, cuts)
        self.index = SegmentedIndex([PremiseIndex.of(part) for part in parts])
        self.ids = np.concatenate([np.array(ids) for ids in id_ranges([len(part) for part in parts])])
        """Premise id of each row."""

    def set_of(self, mask: PremiseMask) -> PremiseSet:
        """The premise set of some rows, [n]."""
        by_id = np.zeros(self.ids[-1] + 1, np.bool_)
        by_id[self.ids] = mask
        return PremiseSet.of(by_id)


@cache
def cut(name: str, cuts: Cuts) -> Segments:
    return Segments(DATA[name], cuts)


def search(segments: Segments, state: Vector, mask: PremiseMask, k: int) -> Hits:
    (hits,) = segments.index.search([Search(state, segments.set_of(mask), k)])
    return hits


def obvious(state: Vector, rows: Vectors, mask: PremiseMask, k: int) -> Hits:
    """Score everything, sort, cut."""
    ids = np.flatnonzero(mask)
    scores = inner_products(state, rows, ids)
    order = np.lexsort((ids, -scores))[:k]
    return Hits(ids[order], scores[order])


def assert_same(hits: Hits, of_rows: Hits, segments: Segments) -> None:
    """The same premises in the same order with the same bytes as scores."""
    assert hits.ids.tolist() == segments.ids[of_rows.ids].tolist()
    assert hits.scores.tobytes() == of_rows.scores.tobytes()


# Segments of one row, of less and more than a byte of a bit set, of a block; several blocks beside a few rows.
CUTS = st.lists(
    st.sampled_from([1, 2, 7, 8, 9, 17, 64, 4_096, BLOCK - 1, BLOCK, BLOCK + 1, COUNT // 2, 12_001, 19_990, 19_999]),
    max_size=2,
    unique=True,
).map(lambda cuts: tuple(sorted(cuts)))
SHARES = st.sampled_from([1.0, 0.99, 0.5, 0.06, 0.02, 0.0005, 0.0])


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(DATA)),
    cuts=CUTS,
    seed=st.integers(0, 2**32 - 1),
    shares=st.lists(st.tuples(SHARES, SHARES, SHARES), min_size=1, max_size=4),
    k=st.sampled_from([1, 2, 16, 256, 1024, COUNT, COUNT + 5]),
    own=st.booleans(),
    by_module=st.booleans(),
)
def test_bitwise_equal_to_one_index_and_to_scoring_everything(
    name: str, cuts: Cuts, seed: int, shares: list[tuple[float, float, float]], k: int, own: bool, by_module: bool
) -> None:
    """`shares` of each search are the accessible parts of the first, the second and the third segment."""
    rng = np.random.default_rng(seed)
    rows = DATA[name]
    states = [rows[i].copy() for i in rng.integers(COUNT, size=len(shares))]
    if not own:
        states = list(unit(rng.standard_normal((len(shares), DIMENSION))))
    # Premises of one module stand together: whole blocks are then not accessible.
    module = np.arange(COUNT) // 500 if by_module else np.arange(COUNT)
    segment = np.searchsorted(cuts, np.arange(COUNT), "right")
    masks = [rng.random(COUNT)[module] < np.array(parts)[segment] for parts in shares]
    answers = {}
    for segments in (cut(name, cuts), cut(name, ())):
        searches = [Search(state, segments.set_of(mask), k) for state, mask in zip(states, masks, strict=True)]
        answers[segments] = segments.index.search(searches)
    for segments, found in answers.items():
        for hits, state, mask in zip(found, states, masks, strict=True):
            assert_same(hits, obvious(state, rows, mask, k), segments)


@pytest.mark.parametrize("k", [16, 1024])
def test_each_segment_is_searched_with_its_own_rounding(k: int) -> None:
    rows, segments, everything = DATA["halves"], cut("halves", (COUNT // 2,)), np.ones(COUNT, np.bool_)
    for state in rows[::1000]:
        assert_same(search(segments, state, everything, k), obvious(state, rows, everything, k), segments)


def test_ties_across_segments_go_to_the_smaller_premise_ids() -> None:
    rows = np.zeros((100, 4), np.float32)
    rows[:, 0] = 0.5
    rows[60, 0] = 1
    segments = Segments(rows, (3, 50))
    everything = np.ones(100, np.bool_)
    assert segments.ids[[0, 2, 3, 49, 50, 99]].tolist() == [0, 2, 8, 54, 56, 105]
    hits = search(segments, np.array([1, 0, 0, 0], np.float32), everything, 6)
    assert hits.ids.tolist() == [66, 0, 1, 2, 8, 9]
    assert len(search(segments, rows[0], everything, 1000).ids) == 100


@pytest.fixture(scope="module")
def embeddings(demo_corpus: ReadCorpus, model: ModelDirectory, demo_settings: Settings) -> Vectors:
    encoder = TorchEncoder(model, demo_settings)
    return encoder.embed(encoder.tokenize([text[:200] for text in demo_corpus.texts[::2]]))


@pytest.mark.parametrize("cuts", [(), (6_000,), (5_000, 5_100)])
@pytest.mark.parametrize("k", [1, 16, 200, 1024])
def test_bitwise_equal_on_embeddings_of_real_text(embeddings: Vectors, k: int, cuts: Cuts) -> None:
    rows = embeddings
    # Many copies with a little noise: enough rows for the quantised path to be the one that answers.
    rng = np.random.default_rng(k)
    many = unit(np.tile(rows, (15, 1)) + 0.02 * rng.standard_normal((15 * len(rows), rows.shape[1])))
    segments = Segments(many, cuts)
    mask = rng.random(len(many)) < 0.9
    for state in rows[:20]:
        assert_same(search(segments, state, mask, k), obvious(state, many, mask, k), segments)


@pytest.mark.parametrize("cuts", [(), (12_001,), (1, BLOCK)])
def test_the_scan_proves_where_scores_spread_and_blocks_are_read_where_they_do_not(cuts: Cuts) -> None:
    loose, tight = cut("loose", cuts), cut("nearly equal", cuts)
    everything = np.ones(COUNT, np.bool_)
    for i in range(20):
        proven = search(loose, DATA["loose"][i], everything, 4)
        state = DATA["nearly equal"][i]
        read_again = search(tight, state, everything, 4)
        assert not proven.widened
        assert read_again.widened
        assert_same(read_again, obvious(state, DATA["nearly equal"], everything, 4), tight)


@pytest.mark.parametrize("count", [0, 1, LEAST_CANDIDATES, LEAST_CANDIDATES + 1, BLOCK - 1, BLOCK])
def test_every_size_of_a_block(count: int) -> None:
    mask = np.zeros(COUNT, np.bool_)
    mask[BLOCK : BLOCK + count] = True
    rows, segments = DATA["clustered"], cut("clustered", ())
    assert_same(search(segments, rows[0], mask, 16), obvious(rows[0], rows, mask, 16), segments)


def test_a_search_reads_a_closed_index_to_its_end_and_the_next_one_fails() -> None:
    rows = DATA["loose"]
    index = PremiseIndex.of(rows)
    held, _ = index.parts()
    index.close()
    np.testing.assert_array_equal(held, rows)
    with pytest.raises(ValueError, match="closed"):
        SegmentedIndex([index]).search([Search(rows[0], PremiseSet.of(np.ones(COUNT, np.bool_)), 1)])


@settings(max_examples=50)
@given(st.lists(st.integers(0, 99), max_size=30), st.lists(st.integers(0, 99), max_size=30, unique=True))
def test_leaving_ids_out_leaves_out_just_those(members: list[int], left_out: list[int]) -> None:
    mask = np.zeros(100, np.bool_)
    mask[members] = True
    whole = PremiseSet.of(mask)
    rest = whole.without(np.array(left_out, np.int64))
    assert set(rest.ids(range(100)).tolist()) == set(members) - set(left_out)
    assert rest.count == len(set(members) - set(left_out))
    assert set(whole.ids(range(100)).tolist()) == set(members)
