"""One number for a model on a split: which it is, how it is written, and what steps are compared by."""

import pytest

from api_schemas.results.metrics import Scores


@pytest.mark.parametrize(
    ("measured", "name", "text", "higher_is_better", "metric"),
    [
        ({"accuracy": 0.918, "cross_entropy": 0.3}, "accuracy", "91.8%", True, 0.918),
        ({"mean_average_precision": 0.4713, "cross_entropy": 0.1}, "mAP", "47.1%", True, 0.4713),
        ({"token_accuracy": 0.5, "macro_f1": 0.2, "cross_entropy": 1.0}, "token accuracy", "50.0%", True, 0.5),
        ({"word_error_rate": 0.123, "character_error_rate": 0.05, "cross_entropy": 1.0}, "WER", "12.3%", False, 0.877),
        ({"word_error_rate": 1.4, "character_error_rate": 1.0, "cross_entropy": 9.0}, "WER", "140.0%", False, 0.0),
        ({"cosine_similarity": 0.98765, "similarity_correlation": 0.9}, "cosine similarity", "0.9877", True, 0.98765),
        # Nobody's label, no word: the loss is all there is, and nothing to compare steps by.
        ({"cross_entropy": 0.38912}, "cross entropy", "0.3891", False, None),
    ],
)
def test_the_headline(
    measured: dict[str, float], name: str, text: str, higher_is_better: bool, metric: float | None
) -> None:
    scores = Scores.model_validate({"samples": 10, **measured})
    assert scores.headline is not None
    assert (scores.headline.name, scores.headline.text, scores.headline.higher_is_better) == (
        name,
        text,
        higher_is_better,
    )
    assert scores.metric == (None if metric is None else pytest.approx(metric))


def test_nothing_measured_has_none() -> None:
    assert Scores(samples=0).headline is None
    assert Scores(samples=0).metric is None


def test_of_two_that_get_every_word_wrong_the_one_with_fewer_errors_is_the_better() -> None:
    worse, better = (Scores(samples=1, cross_entropy=2.0, word_error_rate=rate) for rate in (1.4, 1.1))
    assert worse.metric == better.metric == 0.0
    assert worse.rank < better.rank


def test_where_only_a_loss_is_defined_less_of_it_is_better() -> None:
    assert Scores(samples=1, cross_entropy=2.0).rank < Scores(samples=1, cross_entropy=1.0).rank
    assert Scores(samples=0).rank == 0.0
    assert Scores(samples=1, accuracy=0.5, cross_entropy=9.0).rank == 0.5
