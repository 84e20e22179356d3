"""The rule of batches: the texts of the next one, and its cost in tokens."""

from collections.abc import Sequence


def take_batch(lengths: Sequence[int], max_tokens: int, *, padded: bool) -> list[int]:
    """Indices of the next batch among texts waiting in order of arrival, `lengths` tokens each.

    The oldest text is always in it, so nothing starves; then come those nearest to it in length, while the cost stays
    within `max_tokens`. Near lengths keep padding small; a packed model computes texts of one length together. A text
    longer than the budget goes alone.
    """
    batch: list[int] = []
    longest = total = 0
    for i in sorted(range(len(lengths)), key=lambda i: (i != 0, abs(lengths[i] - lengths[0]), i)):
        longest = max(longest, lengths[i])
        total += lengths[i]
        if batch and (longest * (len(batch) + 1) if padded else total) > max_tokens:
            break
        batch.append(i)
    return batch


def cost(lengths: Sequence[int], *, padded: bool) -> int:
    """Tokens that the model computes in a batch: longest x count if it pads, the sum of the lengths if it packs.

    The few tokens that `packing.evened` adds on a CPU are not counted.
    """
    return max(lengths) * len(lengths) if padded else sum(lengths)
