"""The answer of a search is bitwise that of scoring every accessible premise, whichever path finds it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from api.corpus.reader import ReadCorpus
from api.search.index import LEAST_CANDIDATES, Hits, PremiseIndex, Search, inner_products
from api.search.premise_set import PremiseSet
from api.search.quantised_index import BLOCK
from shared.model.directory import ModelDirectory
from shared.settings import Settings
from shared.vectors import Vectors
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


DATA = {
    "clustered": clustered(0.3),
    "loose": clustered(2.0),
    "duplicates": duplicates(),
    "nearly equal": nearly_equal(),
    "outlier": outlier(),
}


@pytest.fixture(scope="module")
def indices() -> dict[str, PremiseIndex]:
    return {name: PremiseIndex.of(rows) for name, rows in DATA.items()}


def bytes_of(hits: Hits) -> tuple[list[int], bytes]:
    return hits.ids.tolist(), hits.scores.tobytes()


def obvious(state: Vectors, rows: Vectors, mask: NDArray[np.bool_], k: int) -> tuple[list[int], bytes]:
    """Score everything, sort, cut."""
    ids = np.flatnonzero(mask)
    scores = inner_products(state, rows, ids)
    order = np.lexsort((ids, -scores))[:k]
    return ids[order].tolist(), scores[order].tobytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(sorted(DATA)),
    seed=st.integers(0, 2**32 - 1),
    shares=st.lists(st.sampled_from([1.0, 0.99, 0.5, 0.06, 0.02, 0.0005, 0.0]), min_size=1, max_size=4),
    k=st.sampled_from([1, 2, 16, 256, 1024, COUNT, COUNT + 5]),
    own=st.booleans(),
    by_module=st.booleans(),
)
def test_bitwise_equal_to_scoring_everything(
    indices: dict[str, PremiseIndex], name: str, seed: int, shares: list[float], k: int, own: bool, by_module: bool
) -> None:
    rng = np.random.default_rng(seed)
    rows = DATA[name]
    states = [rows[i].copy() for i in rng.integers(COUNT, size=len(shares))]
    if not own:
        states = list(unit(rng.standard_normal((len(shares), DIMENSION))))
    # Premises of one module stand together: whole blocks are then not accessible.
    module = np.arange(COUNT) // 500 if by_module else np.arange(COUNT)
    masks = [(rng.random(COUNT) < share)[module] for share in shares]
    searches = [Search(state, PremiseSet.of(mask), k) for state, mask in zip(states, masks, strict=True)]
    for hits, state, mask in zip(indices[name].search(searches), states, masks, strict=True):
        assert bytes_of(hits) == obvious(state, rows, mask, k)


@pytest.fixture(scope="module")
def embeddings(demo_corpus: ReadCorpus, model: ModelDirectory, demo_settings: Settings) -> Vectors:
    encoder = TorchEncoder(model, demo_settings)
    return encoder.embed(encoder.tokenize([text[:200] for text in demo_corpus.texts[::2]]))


@pytest.mark.parametrize("k", [1, 16, 200, 1024])
def test_bitwise_equal_on_embeddings_of_real_text(embeddings: Vectors, k: int) -> None:
    rows = embeddings
    # Many copies with a little noise: enough rows for the quantised path to be the one that answers.
    rng = np.random.default_rng(k)
    many = unit(np.tile(rows, (15, 1)) + 0.02 * rng.standard_normal((15 * len(rows), rows.shape[1])))
    index = PremiseIndex.of(many)
    mask = rng.random(len(many)) < 0.9
    for state in rows[:20]:
        (hits,) = index.search([Search(state, PremiseSet.of(mask), k)])
        assert bytes_of(hits) == obvious(state, many, mask, k)


def test_the_scan_proves_where_scores_spread_and_blocks_are_read_where_they_do_not() -> None:
    loose, tight = PremiseIndex.of(DATA["loose"]), PremiseIndex.of(DATA["nearly equal"])
    everything = PremiseSet.of(np.ones(COUNT, np.bool_))
    for i in range(20):
        (proven,) = loose.search([Search(DATA["loose"][i], everything, 4)])
        (read_again,) = tight.search([Search(DATA["nearly equal"][i], everything, 4)])
        assert not proven.widened
        assert read_again.widened


@pytest.mark.parametrize("count", [0, 1, LEAST_CANDIDATES, LEAST_CANDIDATES + 1, BLOCK - 1, BLOCK])
def test_every_size_of_a_block(indices: dict[str, PremiseIndex], count: int) -> None:
    mask = np.zeros(COUNT, np.bool_)
    mask[BLOCK : BLOCK + count] = True
    rows = DATA["clustered"]
    (hits,) = indices["clustered"].search([Search(rows[0], PremiseSet.of(mask), 16)])
    assert bytes_of(hits) == obvious(rows[0], rows, mask, 16)


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
