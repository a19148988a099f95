"""Wrong words by clip, their intervals, and LiteASR's components, against slower ways to get them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.whisper import lite_asr
from benchmarks.whisper.judging import Words, difference, encoder_parameters, rate_interval, words
from benchmarks.whisper.page import page
from tests.unit.engine.tasks.models import whisper
from tests.unit.engine.tasks.test_sequences import CPU, TASK, recorded
from worker.engine.evaluate import evaluate


def drawn(clips: int = 60) -> tuple[Words, Words]:
    generator = np.random.default_rng(0)
    wanted = generator.integers(3, 20, clips)
    first, second = (np.minimum(wanted, generator.poisson(mean, clips)) for mean in (1.0, 2.0))
    return Words(first, wanted), Words(second, wanted)


def test_edits_by_clip_add_up_to_the_word_error_rate() -> None:
    model, split = whisper(), recorded()
    found = words(model, split, TASK)
    whole = evaluate(model, split, TASK, batch_size=4, device=CPU)
    assert whole.word_error_rate == pytest.approx(found.rate / 100)
    assert found.wanted.tolist() == [2, 2, 2, 1]
    assert (Words.from_json(found.as_json()).edits == found.edits).all()


def test_intervals_are_those_of_resampling_clips_one_by_one() -> None:
    first, second = drawn()
    generator = np.random.default_rng(1)
    picked = generator.integers(60, size=(5000, 60))
    rates = [100 * each.edits[picked].sum(1) / each.wanted[picked].sum(1) for each in (first, second)]
    assert rate_interval(first) == pytest.approx(np.quantile(rates[0], [0.025, 0.975]).tolist(), abs=0.4)
    points, low, high = difference(first, second)
    assert points == pytest.approx(first.rate - second.rate)
    assert [low, high] == pytest.approx(np.quantile(rates[0] - rates[1], [0.025, 0.975]).tolist(), abs=0.4)


def test_positions_are_no_encoder_parameters() -> None:
    model = whisper()
    everything = sum(each.numel() for each in model.get_encoder().parameters())
    assert encoder_parameters(model, TASK) == everything - 10 * 16


def test_principal_components_are_those_of_all_frames_at_once() -> None:
    frames = torch.randn(90, 6, generator=torch.Generator().manual_seed(0)) @ torch.diag(torch.arange(1.0, 7.0)) + 3.0
    sums = lite_asr._Frames()
    for part in frames.split(30):
        sums.add(part)
    singular, vectors = sums.decomposition()
    _, wanted, right = torch.linalg.svd(frames - frames.mean(0), full_matrices=False)
    torch.testing.assert_close(singular, wanted)
    torch.testing.assert_close((vectors @ right.mT).abs(), torch.eye(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(sums.mean().float(), frames.mean(0))


def test_a_folder_that_is_no_checkout_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"src/compress\.py is missing"):
        lite_asr.load(tmp_path)


def test_ours_and_theirs_of_equal_size_are_compared_on_the_page() -> None:
    first, second = drawn()
    speed = {"seconds": 60.0, "ratio": 1.2, "low": 1.1, "high": 1.3}

    def arm(found: Words, encoder: int = 6_480_000) -> dict[str, object]:
        both = {test: found.as_json() for test in ("synthesised", "real")}
        return {"words": both, "encoder_parameters": encoder, "parameters": 36_000_000, "speed": speed}

    arms = {
        "dense": arm(first, 7_632_384),
        "ours, encoder of 6.48 M": arm(first),
        "LiteASR, encoder of 6.48 M": arm(second),
        "ours, 50% of FLOPs": arm(second),
    }
    clips = {"train": 1, "validation": 2, "test": 3}
    found = {"clips": clips, "arms": arms, "machine": {"cores": 2}, "command": "python", "load": 1.0}
    text = page(found)
    points, low, high = difference(first, second)
    assert f"| 6.48 M | {points:+.1f} ({low:+.1f} to {high:+.1f}) |" in text
    assert text.count("| 6.48 | 36.00 |") == len(arms) - 1
    assert text.count("| yes |") == 4
    assert text.count("| no |") == 0
    worse = {**arms, "ours, encoder of 6.48 M": arm(second), "LiteASR, encoder of 6.48 M": arm(first)}
    assert page({**found, "arms": worse}).count("| no |") == 4
    assert page(found, text + "\n## Notes\n\nTold by hand.\n") == text + "\n## Notes\n\nTold by hand.\n"
