"""Search and merge against a slow, obvious sort, where scores are exact and ties are many."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from api.retrieval.ranking import merge, new_premise_scores
from api.search.index import Hits, PremiseIndex, Search
from api.search.premise_set import PremiseMask, PremiseSet
from api.search.segments import SegmentedIndex
from shared.vectors import Vector, Vectors

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no reason to fail."""
VALUES = np.array([-1, -0.5, 0, 0.5, 1], np.float32)
"""Sums of a few products of these are exact in float32, in whatever order they are added."""


@dataclass(frozen=True)
class Case:
    state: Vector
    indexed: Vectors
    accessible: NDArray[np.bool_]
    new: Vectors
    k: int

    @property
    def names(self) -> list[str]:
        return [f"indexed{i}" for i in range(len(self.indexed))]

    @property
    def new_names(self) -> list[str]:
        return [f"new{i}" for i in range(len(self.new))]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A few distinct rows, repeated; from a handful of premises to more than any heap of FAISS keeps inline."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dimension = draw(st.integers(1, 17))
    distinct = rng.choice(VALUES, size=(draw(st.integers(1, 5)), dimension))
    size = draw(st.one_of(st.integers(1, 12), st.sampled_from([64, 300, 1500])))
    share = draw(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
    return Case(
        state=rng.choice(VALUES, size=dimension),
        indexed=distinct[rng.integers(len(distinct), size=size)],
        accessible=rng.random(size) < share,
        new=distinct[rng.integers(len(distinct), size=draw(st.integers(0, 8)))],
        k=draw(st.one_of(st.integers(1, 12), st.integers(1, size + 10), st.just(size), st.just(2**40))),
    )


def found(rows: Vectors, state: Vector, accessible: PremiseMask, k: int) -> Hits:
    (hits,) = SegmentedIndex([PremiseIndex.of(rows)]).search([Search(state, PremiseSet.of(accessible), k)])
    return hits


def ranked(case: Case) -> list[tuple[str, float]]:
    hits = found(case.indexed, case.state, case.accessible, case.k)
    answer = merge(hits, case.names, new_premise_scores(case.state, case.new), case.new_names, case.k)
    return [(name, float(score)) for name, score in answer]


def inner_product(a: Vector, b: Vector) -> float:
    return sum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def slowly_ranked(case: Case) -> list[tuple[str, float]]:
    candidates = [
        (-inner_product(case.state, case.indexed[i]), "indexed", i)
        for i in range(len(case.indexed))
        if case.accessible[i]
    ]
    candidates += [(-inner_product(case.state, case.new[i]), "new", i) for i in range(len(case.new))]
    return [(f"{kind}{i}", -negated) for negated, kind, i in sorted(candidates)[: case.k]]


@settings(UNHURRIED, max_examples=300)
@given(cases())
def test_search_and_merge_are_a_sort_by_score_then_indexed_before_new_then_position(case: Case) -> None:
    assert ranked(case) == slowly_ranked(case)


@settings(UNHURRIED, max_examples=100)
@given(cases())
def test_search_finds_the_best_accessible_premises_and_no_others(case: Case) -> None:
    hits = found(case.indexed, case.state, case.accessible, case.k)
    scores = {i: inner_product(case.state, case.indexed[i]) for i in np.flatnonzero(case.accessible).tolist()}
    expected = sorted(scores, key=lambda i: (-scores[i], i))[: case.k]
    assert hits.ids.tolist() == expected
    assert hits.scores.tolist() == [scores[i] for i in expected]


@settings(UNHURRIED, max_examples=100)
@given(cases(), st.data())
def test_a_smaller_k_answers_the_start_of_a_larger_one(case: Case, data: st.DataObject) -> None:
    everything = Case(case.state, case.indexed, case.accessible, case.new, len(case.indexed) + len(case.new))
    fewer = data.draw(st.integers(1, everything.k))
    smaller = Case(case.state, case.indexed, case.accessible, case.new, fewer)
    assert ranked(smaller) == ranked(everything)[:fewer]


@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 8, 12, 100, 384, 768])
def test_a_vector_scores_the_same_to_the_last_bit_indexed_and_new_alone_and_in_company(dimension: int) -> None:
    rng = np.random.default_rng(dimension)
    rows = rng.normal(size=(600, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    state = rows[0].copy()
    new = new_premise_scores(state, rows)
    for k in (5, 150, 600):
        hits = found(rows, state, np.ones(600, np.bool_), k)
        assert hits.scores.tolist() == new[hits.ids].tolist()
    some = rng.random(600) < 0.02
    hits = found(rows, state, some, 600)
    assert hits.scores.tolist() == new[hits.ids].tolist()
    assert [new_premise_scores(state, rows[i : i + 1])[0] for i in range(50)] == new[:50].tolist()


def test_equal_scores_at_the_edge_of_k_go_to_the_first_premises() -> None:
    rows = np.zeros((1000, 4), np.float32)
    rows[:, 0] = 0.5
    rows[700, 0] = 1
    hits = found(rows, np.array([1, 0, 0, 0], np.float32), np.ones(1000, np.bool_), 4)
    assert hits.ids.tolist() == [700, 0, 1, 2]


def test_nothing_accessible_and_nothing_new_is_an_empty_answer() -> None:
    state = np.ones(4, np.float32)
    hits = found(np.ones((3, 4), np.float32), state, np.zeros(3, np.bool_), 5)
    assert len(hits.ids) == 0
    assert merge(hits, ["a", "b", "c"], new_premise_scores(state, np.empty((0, 4), np.float32)), [], 5) == []


def test_new_premises_alone_are_ranked() -> None:
    nothing = Hits(np.empty(0, np.int64), np.empty(0, np.float32))
    answer = merge(nothing, [], np.array([0.25, 0.75, 0.25], np.float32), ["a", "b", "c"], 3)
    assert [(name, float(score)) for name, score in answer] == [("b", 0.75), ("a", 0.25), ("c", 0.25)]
