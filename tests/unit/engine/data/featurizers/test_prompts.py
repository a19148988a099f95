"""The tokens that a Whisper's decoder is given before a text: as transformers' `generate` gives them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AddedToken, GenerationConfig, WhisperConfig, WhisperForConditionalGeneration, WhisperTokenizer

from api_schemas.enums import Head
from api_schemas.errors import SecateurError
from api_schemas.spec.job import Speech
from tests.support.checkpoints import preprocessors
from worker.engine.data.featurizers.transcripts import Transcripts

SPECIAL = ("<|startoftranscript|>", "<|en|>", "<|de|>", "<|fr|>", "<|translate|>", "<|transcribe|>", "<|notimestamps|>")


def folder_of(
    folder: Path, tokenizer: dict[str, str], generation: dict[str, Any] | None, **config: Any
) -> tuple[Path, Any]:
    """A Whisper's folder, and its tokenizer: its settings say `tokenizer`, its generation_config.json `generation`."""
    vocabulary, merges = preprocessors._byte_pairs([])
    made = WhisperTokenizer(vocab=vocabulary, merges=merges)
    made.add_special_tokens({"additional_special_tokens": [AddedToken(token, special=True) for token in SPECIAL]})
    if tokenizer:
        made.set_prefix_tokens(**tokenizer)
    made.save_pretrained(folder)
    settings = {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "vocab_size": len(made),
        "max_target_positions": 40,
        "decoder_start_token_id": made.convert_tokens_to_ids(SPECIAL[0]),
        **config,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder, made


def ids_of(tokenizer: Any, *tokens: str) -> list[int]:
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


def given_by_transformers(
    tokenizer: Any, generation: dict[str, Any], config: dict[str, Any], said: dict[str, str]
) -> list[int]:
    """What stock `generate` begins with."""
    start, *_ = ids_of(tokenizer, SPECIAL[0])
    sizes = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
    }
    tokens = {
        "pad_token_id": tokenizer.eos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": start,
    }
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer), encoder_ffn_dim=16, decoder_ffn_dim=16, max_source_positions=50, max_target_positions=40,
            num_mel_bins=8, begin_suppress_tokens=None, suppress_tokens=None, **sizes, **tokens, **config,
        )
    ).eval()  # fmt: skip
    many = {
        "lang_to_id": {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL[1:4]},
        "task_to_id": {task: ids_of(tokenizer, f"<|{task}|>")[0] for task in ("transcribe", "translate")},
    }
    model.generation_config = GenerationConfig(
        **(many if generation["is_multilingual"] else {}),
        no_timestamps_token_id=ids_of(tokenizer, "<|notimestamps|>")[0],
        **tokens,
        **generation,
    )
    with torch.no_grad():
        made = model.generate(
            torch.zeros(1, 8, 100),
            max_new_tokens=1,
            return_dict_in_generate=True,
            force_unique_generate_call=True,
            **said,
        )
    given: list[int] = made.sequences[0, :-1].tolist()
    return given


MANY = {"is_multilingual": True}


@pytest.mark.parametrize(
    ("tokenizer", "generation", "config", "said", "wanted"),
    [
        ({}, MANY, {}, {"language": "de"}, ("<|de|>", "<|transcribe|>")),
        ({}, MANY, {}, {"language": "German", "task": "translate"}, ("<|de|>", "<|translate|>")),
        ({}, {**MANY, "language": "fr"}, {}, {}, ("<|fr|>", "<|transcribe|>")),
        ({}, {**MANY, "language": "fr", "task": "translate"}, {}, {}, ("<|fr|>", "<|translate|>")),
        ({}, {**MANY, "language": "fr"}, {}, {"language": "de"}, ("<|de|>", "<|transcribe|>")),
        ({"language": "en"}, {**MANY, "language": "fr"}, {}, {}, ("<|fr|>", "<|transcribe|>")),
        ({}, MANY, {"forced": ("<|de|>", "<|transcribe|>")}, {}, ("<|de|>", "<|transcribe|>")),
        ({}, {"is_multilingual": False}, {}, {}, ()),
    ],
    ids=str,
)
def test_it_is_given_what_transformers_gives(
    tokenizer: dict[str, str],
    generation: dict[str, Any],
    config: dict[str, Any],
    said: dict[str, str],
    wanted: tuple[str, ...],
    tmp_path: Path,
) -> None:
    folder, made = folder_of(tmp_path, tokenizer, generation)
    forced = {}
    if "forced" in config:
        forced = {
            "forced_decoder_ids": [[place, number] for place, number in enumerate(ids_of(made, *config["forced"]), 1)]
        }
        folder, made = folder_of(tmp_path, tokenizer, generation, **forced)
    transcripts = Transcripts(folder, Head.SEQUENCE_TO_SEQUENCE, Speech.model_validate(said))
    assert transcripts.prompt is not None
    assert transcripts.prompt.tokens == (*wanted, "<|notimestamps|>")
    assert not transcripts.prompt.unsaid
    ids, _ = transcripts.ids({"train": ["ab"]})
    row = ids["train"].row(0).tolist()
    assert row[: len(wanted) + 1] == ids_of(made, *wanted, "<|notimestamps|>")
    assert row[-1] == made.eos_token_id
    assert transcripts.decode(row) == "ab"
    assert given_by_transformers(made, generation, forced, said) == ids_of(
        made, SPECIAL[0], *wanted, "<|notimestamps|>"
    )


def test_where_generation_guesses_the_language_the_config_names_it(tmp_path: Path) -> None:
    """As whisper-base is published."""
    _, made = folder_of(tmp_path, {}, None)
    places = [
        [place, number] for place, number in enumerate(ids_of(made, "<|de|>", "<|translate|>", "<|notimestamps|>"), 1)
    ]
    guessing = {**MANY, "forced_decoder_ids": [[1, None], [2, ids_of(made, "<|transcribe|>")[0]]]}
    folder, _ = folder_of(tmp_path, {}, guessing, forced_decoder_ids=places)
    prompt = Transcripts(folder, Head.SEQUENCE_TO_SEQUENCE).prompt
    assert prompt is not None
    assert prompt.tokens == ("<|de|>", "<|transcribe|>", "<|notimestamps|>")


def test_a_language_that_only_the_tokenizer_says_is_taken(tmp_path: Path) -> None:
    folder, _ = folder_of(tmp_path, {"language": "en", "task": "transcribe"}, MANY)
    prompt = Transcripts(folder, Head.SEQUENCE_TO_SEQUENCE).prompt
    assert prompt is not None
    assert prompt.tokens == ("<|en|>", "<|transcribe|>", "<|notimestamps|>")


def test_many_languages_of_which_none_is_named(tmp_path: Path) -> None:
    folder, _ = folder_of(tmp_path, {}, MANY)
    prompt = Transcripts(folder, Head.SEQUENCE_TO_SEQUENCE).prompt
    assert prompt is not None
    assert prompt.unsaid


@pytest.mark.parametrize(
    ("generation", "said", "reason"),
    [
        (MANY, {"language": "xx"}, "not support the language 'xx'"),
        (MANY, {"language": "japanese"}, "not support the language 'japanese'"),
        ({"is_multilingual": False}, {"language": "en"}, "English-only"),
        ({"is_multilingual": False}, {"task": "translate"}, "English-only"),
        ({**MANY, "language": 5}, {}, "not support the language '5'"),
        ({**MANY, "language": "de", "task": "sing"}, {}, "not support the task 'sing'"),
    ],
)
def test_what_a_checkpoint_cannot_be_asked(
    generation: dict[str, Any], said: dict[str, str], reason: str, tmp_path: Path
) -> None:
    folder, _ = folder_of(tmp_path, {}, generation)
    with pytest.raises(SecateurError, match=reason) as caught:
        Transcripts(folder, Head.SEQUENCE_TO_SEQUENCE, Speech.model_validate(said))
    assert caught.value.code == "invalid_request"
