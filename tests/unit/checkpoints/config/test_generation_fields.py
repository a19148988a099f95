"""generation_config.json: what published checkpoints say is accepted, what transformers would fail on is refused by its key."""

import json
from typing import Any

import pytest
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ALL_CACHE_IMPLEMENTATIONS

from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.config.generation_fields import CACHES, GENERATION_FIELDS, METHODS, OBJECTS, check_generation

WHISPER = {
    "alignment_heads": [[7, 0], [10, 17]],
    "begin_suppress_tokens": [220, 50257],
    "bos_token_id": 50257,
    "decoder_start_token_id": 50258,
    "eos_token_id": 50257,
    "forced_decoder_ids": [[1, None], [2, 50360]],
    "is_multilingual": True,
    "lang_to_id": {"<|en|>": 50259, "<|zh|>": 50260},
    "max_initial_timestamp_index": 50,
    "max_length": 448,
    "no_timestamps_token_id": 50364,
    "pad_token_id": 50257,
    "prev_sot_token_id": 50362,
    "return_timestamps": False,
    "suppress_tokens": [],
    "task_to_id": {"transcribe": 50360, "translate": 50359},
    "transformers_version": "4.36.0.dev0",
}
"""As openai/whisper-large-v3 says them, lists shortened."""
DECODERS: dict[str, dict[str, Any]] = {
    "Llama 3": {
        "bos_token_id": 128000, "do_sample": True, "eos_token_id": [128001, 128009], "temperature": 0.6, "top_p": 0.9,
        "max_length": 4096,
    },
    "Gemma 2": {
        "_from_model_config": True, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1, "pad_token_id": 0,
    },
    "Qwen 2": {"repetition_penalty": 1.1, "top_k": 20, "do_sample": True, "pad_token_id": 151643, "chat_format": "chatml"},
}  # fmt: skip


@pytest.mark.parametrize("said", [WHISPER, *DECODERS.values(), {}], ids=["Whisper", *DECODERS, "nothing"])
def test_what_published_checkpoints_say_is_accepted(said: dict[str, Any]) -> None:
    check_generation(said)
    GenerationConfig.from_dict(dict(said))


def test_what_transformers_writes_is_accepted() -> None:
    check_generation(json.loads(GenerationConfig().to_json_string(use_diff=False)))
    check_generation(json.loads(GenerationConfig(do_sample=True, top_k=5, eos_token_id=[1, 2]).to_json_string()))


UNREADABLE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("max_new_tokens", {"max_new_tokens": 0}),
    ("max_new_tokens", {"max_new_tokens": "many"}),
    ("early_stopping", {"early_stopping": [1]}),
    ("early_stopping", {"early_stopping": "soon"}),
    ("cache_implementation", {"cache_implementation": "nonsense"}),
    ("compile_config", {"compile_config": {"mode": "default"}}),
    ("compile_config", {"compile_config": False}),
    ("watermarking_config", {"watermarking_config": "green"}),
    ("pad_token_id", {"pad_token_id": "<pad>"}),
    ("suppress_tokens", {"suppress_tokens": 5}),
    ("num_return_sequences", {"num_return_sequences": 2}),
    ("num_return_sequences", {"num_return_sequences": 3, "num_beams": 2}),
    ("forced_eos_token_id", {"forced_eos_token_id": 2, "suppress_tokens": [1, 2]}),
    ("assistant_ensemble_weight", {"assistant_ensemble_weight": 1.0}),
    ("streamer", {"streamer": None}),
    ("validate", {"validate": 1}),
)


@pytest.mark.parametrize(("key", "said"), UNREADABLE, ids=lambda value: json.dumps(value))
def test_what_transformers_cannot_read_is_refused(key: str, said: dict[str, Any]) -> None:
    with pytest.raises(SecateurError, match=rf"generation_config\.json: `{key}`: ") as caught:
        check_generation(said)
    assert caught.value.code is ErrorCode.CONFIG_INVALID
    assert [item.pointer for item in caught.value.errors] == [f"/generation_config.json/{key}"]
    if key != "suppress_tokens":  # read, and of no use in generation
        with pytest.raises((TypeError, ValueError, AttributeError)):
            GenerationConfig.from_dict(dict(said))


@pytest.mark.parametrize("key", ["to_dict", "__class__", "_from_nowhere", "temperature", "max_length"])
def test_what_would_break_it_later_is_refused(key: str) -> None:
    with pytest.raises(SecateurError, match=rf"`{key}`: "):
        check_generation({key: "x"})


def test_names_are_those_of_transformers() -> None:
    """A method of a new version, a cache that came or went: the tables are to follow."""
    own = {name for name in dir(GenerationConfig) if not name.startswith("_")}
    assert own == METHODS
    assert {*ALL_CACHE_IMPLEMENTATIONS, "paged"} == set(CACHES)
    of_whisper = {
        *("alignment_heads", "forced_decoder_ids", "is_multilingual", "lang_to_id", "task_to_id", "language", "task"),
        *("max_initial_timestamp_index", "no_timestamps_token_id", "prev_sot_token_id", "return_timestamps"),
    }
    assert (set(GENERATION_FIELDS) | OBJECTS) - of_whisper <= set(vars(GenerationConfig()))
