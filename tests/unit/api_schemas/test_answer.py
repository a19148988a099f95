"""The sentence that a job's page and `secateur show` open with: measurements on the left, words on the right."""

from typing import Any

import pytest
from scipy.stats import binomtest

from api_schemas.enums import StopReason
from api_schemas.results.answer import NEVER_SIGNIFICANT, Answer, answer, recommendation
from api_schemas.results.display import interval
from api_schemas.results.metrics import JobResult, Latency, Scores, StepMetrics
from tests.support.jobs.records import job_request
from tests.support.jobs.sample_metrics import measured_step, paired

REQUEST = job_request()
BOTH = job_request(pruning={"target": {"attention_sparsity": 0.5, "ffn_sparsity": 0.25}})
BOUND = job_request(stop={"max_drop": 0.01})
BOUND_AS_TARGET = job_request(pruning={"target": {"max_drop": 0.01}})
N = 10_000


def timed(ratio: float, spread: float = 0.05) -> tuple[Latency, ...]:
    return (measured_step(1).latency[0].model_copy(update={"paired": paired(ratio, spread)}),)


UNPAIRED = (timed(1.2)[0].model_copy(update={"paired": None, "speedup": 1.2}),)


def steps(before: dict[str, Any], after: dict[str, Any], **changes: Any) -> list[StepMetrics]:
    """The original and one step, with these scores of N samples on validation and none on test."""
    made = []
    for number, scores in enumerate((before, after)):
        step = measured_step(number)
        size = step.size.model_copy(update={"file_bytes": (1000, 840)[number]})
        update = {"validation": Scores(samples=N, **scores), "test": None, "size": size}
        made.append(
            step.model_copy(update=update | (changes | {"latency": changes.get("latency", ())} if number else {}))
        )
    return made


def said(found: Answer | None) -> str:
    assert found is not None
    return found.sentence


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"accuracy": 0.918}, {"accuracy": 0.915}, "0.3 points of accuracy lost on validation"),
        ({"accuracy": 0.918}, {"accuracy": 0.926}, "0.8 points of accuracy gained on validation"),
        ({"accuracy": 0.918}, {"accuracy": 0.908}, "1.0 point of accuracy lost on validation"),
        ({"accuracy": 0.918}, {"accuracy": 0.918}, "accuracy unchanged at 91.8% on validation"),
        ({"word_error_rate": 0.081}, {"word_error_rate": 0.084}, "WER 0.3 points higher on validation"),
        ({"word_error_rate": 0.081}, {"word_error_rate": 0.078}, "WER 0.3 points lower on validation"),
        ({"mean_average_precision": 0.45}, {"mean_average_precision": 0.44}, "1.0 point of mAP lost on validation"),
        ({"f1": 0.88}, {"f1": 0.8795}, "0.1 points of F1 lost on validation"),
        ({"cosine_similarity": 1.0}, {"cosine_similarity": 0.9812}, "cosine similarity to the original 0.9812 on validation"),
        ({"cross_entropy": 0.3512}, {"cross_entropy": 0.3891}, "cross entropy 0.3891 on validation, up from 0.3512"),
        ({"cross_entropy": 0.3512}, {"cross_entropy": 0.3411}, "cross entropy 0.3411 on validation, down from 0.3512"),
        ({"cross_entropy": 0.3512}, {"cross_entropy": 0.3512}, "cross entropy unchanged at 0.3512 on validation"),
        (
            {"next_token_accuracy": 0.412, "perplexity": 21.9},
            {"next_token_accuracy": 0.409, "perplexity": 23.125},
            "0.3 points of next token accuracy lost on validation (perplexity 23.12, was 21.90)",
        ),
        ({}, {}, "quality not measured"),
    ],
)  # fmt: skip
def test_quality_in_words(before: dict[str, Any], after: dict[str, Any], words: str) -> None:
    found = said(answer(steps(before, after, achieved_sparsity=0.502), None, REQUEST))
    # Nothing was timed: nothing is said of speed.
    assert found == f"Half of the attention parameters removed: 16% smaller, {words}."


@pytest.mark.parametrize(
    ("latency", "words"),
    [
        (timed(1.2), "1.20× faster at batch 1 (1.17 to 1.23×)"),
        (timed(0.8), "slower: 0.80× the original's speed at batch 1 (0.78 to 0.82×)"),
        (timed(1.8, 1.2), "no measurable change in speed at batch 1 (0.72 to 2.88×)"),
        (UNPAIRED, "1.20× faster at batch 1 (uncertainty not measured)"),
        (
            (UNPAIRED[0].model_copy(update={"speedup": 0.9}),),
            "0.90× the original's speed at batch 1 (uncertainty not measured)",
        ),
        ((UNPAIRED[0].model_copy(update={"speedup": 1.001}),), "the same speed at batch 1"),
    ],
)
def test_speed_in_words(latency: tuple[Latency, ...], words: str) -> None:
    scores = {"accuracy": 0.9}
    found = said(answer(steps(scores, scores, latency=latency), None, REQUEST))
    assert (
        found
        == f"12.5% of the attention parameters removed: 16% smaller, {words}, accuracy unchanged at 90.0% on validation."
    )


def test_what_so_few_samples_cannot_tell_is_no_loss() -> None:
    original, cut = steps({"accuracy": 0.9}, {"accuracy": 0.9})

    def changed(wrong: int) -> str:
        worse = Scores(samples=1200, accuracy=0.9 - wrong / 1200)
        return said(answer([original, cut.model_copy(update={"validation": worse})], None, REQUEST))

    assert "no measurable change in accuracy (0.4 points lower on 1,200 validation samples)" in changed(
        NEVER_SIGNIFICANT
    )
    assert "0.5 points of accuracy lost" in changed(NEVER_SIGNIFICANT + 1)
    # All of them wrong, none right instead: the surest case that there is.
    assert binomtest(0, NEVER_SIGNIFICANT).pvalue > 0.05 > binomtest(0, NEVER_SIGNIFICANT + 1).pvalue


def test_sizes_and_parts() -> None:
    scores = {"accuracy": 0.9}
    original, cut = steps(scores, scores, achieved_sparsity=0.5, ffn_sparsity=0.2512)
    found = said(answer([original, cut], None, BOTH))
    assert found.startswith("Half of the attention and a quarter of the feed-forward parameters removed: 16% smaller")
    for size, words in ((1000, "the same size"), (1030, "3% larger"), (994, "0.6% smaller")):
        other = cut.model_copy(update={"size": cut.size.model_copy(update={"file_bytes": size})})
        assert f"removed: {words}, " in said(answer([original, other], None, BOTH))


def test_test_counts_where_it_was_measured() -> None:
    original, cut = steps({"accuracy": 0.9}, {"accuracy": 0.8})
    original = original.model_copy(update={"test": Scores(samples=N, accuracy=0.7)})
    result = JobResult(step=1, stopped=None, detail="Done.", test=Scores(samples=N, accuracy=0.65))
    assert "5.0 points of accuracy lost on test." in said(answer([original, cut], result, REQUEST))
    assert "10.0 points of accuracy lost on validation." in said(answer([original, cut], None, REQUEST))
    assert recommendation(result) == "Recommended: step 1. Done."


def test_nothing_removed_is_said_so() -> None:
    original, cut = steps({"accuracy": 0.9}, {"accuracy": 0.868})
    result = JobResult(step=0, stopped=StopReason.MAX_DROP, detail="It lost too much.", test=None)
    found = answer([original, cut], result, BOUND)
    assert found == Answer(
        "Nothing was removed: accuracy on validation was 3.2 points lower after the first step, and at most 1 point may be lost.",
        removed=False,
    )
    assert "3.2 points lower after the cut that was confirmed" in said(answer([original, cut], result, BOUND_AS_TARGET))
    barely = cut.model_copy(update={"validation": Scores(samples=N, accuracy=0.8897)})
    assert "was 1.03 points lower after" in said(answer([original, barely], result, BOUND))
    worse = cut.model_copy(update={"step": 2, "validation": Scores(samples=N, accuracy=0.8)})
    assert "at least 3.2 points lower after each of 2 cuts" in said(
        answer([original, cut, worse], result, BOUND_AS_TARGET)
    )
    assert recommendation(result) == "Recommended: keep the original model."


def test_before_the_first_cut_there_is_no_answer() -> None:
    assert answer((), None, REQUEST) is None
    assert answer((measured_step(0),), None, REQUEST) is None


@pytest.mark.parametrize(("right", "samples"), [(110, 120), (0, 30), (30, 30), (915, 1000)])
def test_the_interval_is_wilsons(right: int, samples: int) -> None:
    wanted = binomtest(right, samples).proportion_ci(method="wilson")
    found = interval(Scores(samples=samples, accuracy=right / samples))
    assert found == pytest.approx((wanted.low, wanted.high), abs=1e-6)


def test_of_other_metrics_no_interval_is_known() -> None:
    assert interval(Scores(samples=100, word_error_rate=0.1)) is None
    assert interval(Scores(samples=0, accuracy=0.0)) is None
