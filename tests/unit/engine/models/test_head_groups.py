"""Which heads share a call of the attention kernel: the cheapest of all divisions, by the model's own costs."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.engine.models.pruned_heads import CALL_FLOPS, SOFTMAX_CHANNELS, head_groups

PAIRS = st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70)), min_size=1, max_size=6)


def divisions(heads):
    """Every way to divide heads into groups."""
    if not heads:
        yield []
        return
    first, *others = heads
    for rest in divisions(others):
        yield [[first], *rest]
        for place in range(len(rest)):
            yield [*rest[:place], [first, *rest[place]], *rest[place + 1 :]]


def padded(pairs, group):
    widest = max(max(pairs[head]) for head in group)
    return max(16, (widest + 7) // 8 * 8)


@settings(max_examples=150, deadline=None)
@given(PAIRS, st.sampled_from([14, 146, 400, 1214]))
@example([(64, 64), (8, 8), (64, 64), (8, 8)], 1214)
@example([(8, 12), (8, 12)], 146)
def test_the_cheapest_division(pairs, tokens):
    qk, vo = zip(*pairs, strict=True)
    groups = head_groups(qk, vo, tokens**2)
    assert sorted(head for heads, _ in groups for head in heads) == list(range(len(pairs)))
    assert all(list(heads) == sorted(heads) for heads, _ in groups)
    if len(set(qk)) == len(set(vo)) == 1 and max(pairs[0]) % 4 == 0:
        assert groups == (
            (tuple(range(len(pairs))), max(pairs[0])),
        )  # as they are: nothing is copied but the narrower side
        return
    for heads, width in groups:
        assert width == padded(pairs, heads)

    def cost(division):
        kernel = sum(len(group) * (padded(pairs, group) + SOFTMAX_CHANNELS) for group in division)
        return CALL_FLOPS * len(division) + 4 * tokens**2 * kernel

    assert cost([heads for heads, _ in groups]) == min(
        cost(division) for division in divisions(list(range(len(pairs))))
    )


def test_short_inputs_share_one_call_and_long_ones_a_few():
    widths = [11, 24, 24, 27, 29, 37, 38, 47, 51, 54, 57, 59]
    assert head_groups(widths, widths[::-1], 146**2) == ((tuple(range(12)), 64),)
    assert 1 < len(head_groups(widths, widths, 1214**2)) <= 6


def test_sides_of_different_widths_are_padded_to_one():
    assert head_groups([10] * 4, [22] * 4, 146**2) == (((0, 1, 2, 3), 24),)
    assert head_groups([8] * 4, [12] * 4, 146**2) == (((0, 1, 2, 3), 12),)  # the wider side is wide enough as it is
    assert head_groups([31] * 4, [31] * 4, 146**2) == (((0, 1, 2, 3), 32),)  # odd widths are slow


def test_no_heads_no_calls():
    assert head_groups([], [], 146**2) == ()
