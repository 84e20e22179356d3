"""The rule of batches: the budget holds, nothing starves, near lengths go together."""

from hypothesis import given
from hypothesis import strategies as st

from worker.batch_rule import take_batch

LENGTHS = st.lists(st.integers(1, 600), min_size=1, max_size=60)


def cost(lengths: list[int], batch: list[int], padded: bool) -> int:
    taken = [lengths[i] for i in batch]
    return max(taken) * len(taken) if padded else sum(taken)


@given(LENGTHS, st.integers(1, 5_000), st.booleans())
def test_a_batch_keeps_the_budget_or_is_one_text(lengths: list[int], budget: int, padded: bool) -> None:
    batch = take_batch(lengths, budget, padded=padded)
    assert len(batch) == 1 or cost(lengths, batch, padded) <= budget


@given(LENGTHS, st.integers(1, 5_000), st.booleans())
def test_the_oldest_text_is_always_taken(lengths: list[int], budget: int, padded: bool) -> None:
    assert 0 in take_batch(lengths, budget, padded=padded)


@given(LENGTHS, st.integers(1, 5_000), st.booleans())
def test_taking_batches_ends_with_every_text_taken_once(lengths: list[int], budget: int, padded: bool) -> None:
    waiting = list(enumerate(lengths))
    taken: list[int] = []
    while waiting:
        batch = take_batch([length for _, length in waiting], budget, padded=padded)
        assert len(set(batch)) == len(batch)
        taken += [waiting[i][0] for i in batch]
        waiting = [entry for i, entry in enumerate(waiting) if i not in set(batch)]
    assert sorted(taken) == list(range(len(lengths)))


@given(LENGTHS, st.integers(600, 5_000), st.booleans())
def test_texts_of_the_oldest_ones_length_fill_the_batch_first(lengths: list[int], budget: int, padded: bool) -> None:
    batch = take_batch(lengths, budget, padded=padded)
    left = set(range(len(lengths))) - set(batch)
    worst = max(abs(lengths[i] - lengths[0]) for i in batch)
    assert all(abs(lengths[i] - lengths[0]) >= worst for i in left)


@given(LENGTHS, st.integers(1, 5_000))
def test_a_packed_batch_holds_all_of_the_padded_one(lengths: list[int], budget: int) -> None:
    packed = take_batch(lengths, budget, padded=False)
    assert set(packed) >= set(take_batch(lengths, budget, padded=True))


@given(LENGTHS, st.integers(1, 5_000), st.booleans())
def test_a_batch_stops_only_where_the_next_nearest_text_does_not_fit(
    lengths: list[int], budget: int, padded: bool
) -> None:
    batch = take_batch(lengths, budget, padded=padded)
    left = sorted(set(range(len(lengths))) - set(batch), key=lambda i: (abs(lengths[i] - lengths[0]), i))
    assert not left or cost(lengths, [*batch, left[0]], padded) > budget
