"""What generation_config.json may say: a file that transformers turns into a GenerationConfig, and that a result carries along.

Its class makes attributes of all keys, those that it does not know among them. What is refused here it could not read, or would
break it when it is used or written again.
"""

from collections.abc import Mapping
from typing import Any

from api_schemas.errors import ErrorCode, ErrorItem, SecateurError
from checkpoints.config_rules import AnyOf, Integer, ListOf, Null, Number, Numbering, OneOf, Rule, String
from checkpoints.families.config_fields import FLAG, TOKEN, TOKENS, WEIGHT
from checkpoints.files.preprocessor_files import GENERATION

CACHES = (
    "dynamic",
    "hybrid",
    "hybrid_chunked",
    "offloaded",
    "offloaded_hybrid",
    "offloaded_hybrid_chunked",
    "offloaded_static",
    "paged",
    "quantized",
    "sliding_window",
    "static",
)
METHODS = frozenset(
    {
        "dict_dtype_to_str",
        "extra_output_flags",
        "from_dict",
        "from_model_config",
        "from_pretrained",
        "get_generation_mode",
        "push_to_hub",
        "save_pretrained",
        "to_dict",
        "to_diff_dict",
        "to_json_file",
        "to_json_string",
        "update",
        "validate",
    }
)
"""What a GenerationConfig has beside its settings: a key of this name would take its place."""
ARGUMENTS = frozenset(
    {
        "assistant_model",
        "logits_processor",
        "negative_prompt_attention_mask",
        "negative_prompt_ids",
        "prefix_allowed_tokens_fn",
        "stopping_criteria",
        "streamer",
        "synced_gpus",
    }
)
"""Of `generate`, which no settings may have."""
OBJECTS = frozenset({"compile_config", "continuous_batching_config", "watermarking_config"})
"""Of classes of their own, which a file cannot bring or no published one does."""
HIDDEN = frozenset({"_commit_hash", "_from_model_config"})
"""The only names with an underscore in front that transformers writes."""
_COUNT = Integer(0, 2**40)
_FORCED = ("forced_bos_token_id", "forced_eos_token_id")

GENERATION_FIELDS: Mapping[str, Rule] = {
    **dict.fromkeys(
        (
            *("do_sample", "use_cache", "use_mtp", "renormalize_logits", "remove_invalid_values", "token_healing"),
            *("output_attentions", "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate"),
            *("is_assistant", "disable_compile", "low_memory", "_from_model_config"),
            *("is_multilingual", "return_timestamps"),
        ),
        FLAG,
    ),
    **dict.fromkeys(
        (
            *("max_length", "min_length", "min_new_tokens", "max_cache_len", "num_beams", "num_beam_groups"),
            *("num_return_sequences", "top_k", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size"),
            *("num_assistant_tokens", "prompt_lookup_num_tokens", "max_matching_ngram_size", "assistant_early_exit"),
            *("assistant_lookbehind", "target_lookbehind", "prefill_chunk_size", "max_initial_timestamp_index"),
        ),
        _COUNT,
    ),
    "max_new_tokens": Integer(1, 2**40),
    **dict.fromkeys(
        (
            *("temperature", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff", "max_time"),
            *("repetition_penalty", "encoder_repetition_penalty", "length_penalty", "diversity_penalty"),
            *("guidance_scale", "penalty_alpha", "assistant_confidence_threshold"),
        ),
        WEIGHT,
    ),
    "assistant_ensemble_weight": Number(1e-9, 1.0 - 1e-9, null=True),
    "early_stopping": AnyOf(FLAG, OneOf(("never",))),
    "cache_implementation": OneOf(CACHES, null=True),
    **dict.fromkeys(("eos_token_id", "decoder_start_token_id", *_FORCED), TOKENS),
    **dict.fromkeys(("bos_token_id", "pad_token_id", "no_timestamps_token_id", "prev_sot_token_id"), TOKEN),
    **dict.fromkeys(("suppress_tokens", "begin_suppress_tokens"), ListOf(TOKEN)),
    "bad_words_ids": ListOf(ListOf(TOKEN)),
    "forced_decoder_ids": ListOf(ListOf(TOKEN, 2), 64),
    "alignment_heads": ListOf(ListOf(Integer(0, 2**20), 2)),
    **dict.fromkeys(("lang_to_id", "task_to_id"), Numbering()),
    "stop_strings": AnyOf(String(), ListOf(String(), 1024)),
    "exponential_decay_length_penalty": ListOf(WEIGHT, 2),
    **dict.fromkeys(("num_assistant_tokens_schedule", "speculation_type", "transformers_version"), String()),
    **dict.fromkeys(("language", "task"), String()),
    "constraints": Null(),
}


def check_generation(settings: Mapping[str, Any]) -> None:
    """Judge the settings of generation_config.json, an object without code. Raises CONFIG_INVALID, naming the key."""
    for key, value in settings.items():
        rule = GENERATION_FIELDS.get(key)
        if rule is not None and not rule.allows(value):
            raise _invalid(key, f"must be {rule.needed}")
        if key in OBJECTS and value is not None:
            raise _invalid(key, "is not supported; remove it")
        if key in METHODS or (key.startswith("_") and key not in HIDDEN):
            raise _invalid(key, "is the name of a part of transformers' class and of no setting")
        if key in ARGUMENTS:
            raise _invalid(key, "is an argument of `generate` and no setting")
    beams, sequences = settings.get("num_beams") or 1, settings.get("num_return_sequences") or 1
    if sequences > 1 and (sequences > beams if beams > 1 else not settings.get("do_sample")):
        raise _invalid("num_return_sequences", "needs as many `num_beams`, or `do_sample`")
    suppressed = set(settings.get("suppress_tokens") or ())
    for key in _FORCED:
        said = settings.get(key)
        forced = {said} if isinstance(said, int) else set(said or ())
        if forced and forced <= suppressed:
            raise _invalid(key, "`suppress_tokens` has the same tokens")


def _invalid(key: str, reason: str) -> SecateurError:
    shown = key[:100]
    item = ErrorItem.at(GENERATION, shown, code=ErrorCode.CONFIG_INVALID, detail=reason)
    return SecateurError(ErrorCode.CONFIG_INVALID, f"{GENERATION}: `{shown}`: {reason}.", (item,))
