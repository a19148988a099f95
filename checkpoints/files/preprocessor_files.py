"""The files beside a checkpoint that define its inputs: their names, limits, and the classes that may read them."""

from collections.abc import Mapping
from typing import Any

from api_schemas.enums import Head, Modality
from checkpoints.files.shards import WEIGHTS_NAME

PREPROCESSOR = "preprocessor_config.json"
# What transformers 5 saves of a processor with a tokenizer: the same settings, one level down.
PROCESSOR = "processor_config.json"
GENERATION = "generation_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
"""Where newer tokenizers have it, beside tokenizer_config.json: a text, which nothing here reads."""
SPELLINGS = "normalizer.json"
CHAT_TEMPLATES = (CHAT_TEMPLATE, "chat_template.json")
_PARTS = ("feature_extractor", "image_processor")
TYPE_FIELDS = ("image_processor_type", "feature_extractor_type")

TOKENIZER_CONFIG = "tokenizer_config.json"
WHOLE = "tokenizer.json"
# One of them has the words; merges.txt stands beside vocab.json. Which of them a class reads, `vocabularies` says.
VOCABULARIES = (WHOLE, "vocab.json", "vocab.txt")
TOKENIZER_FILES = (*VOCABULARIES, "merges.txt", TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json")
# Of one file with a vocabulary in it; XLM-RoBERTa's, which some BERTs have, has 17 MB, and Gemma's up to 35.
MAX_VOCABULARY_BYTES = 40 * 2**20
VOCABULARY_FILES = (*VOCABULARIES, "merges.txt", "added_tokens.json")

# What sentence-transformers puts around an encoder of text; without modules.json it reads none of the others.
MODULES = "modules.json"
GENERAL = "config_sentence_transformers.json"
# The first that has anything in it counts: older versions named it by the model's type.
ENCODERS = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json")
SETTINGS = "config.json"
"""In a module's folder, which is called by the module's place and class."""
POOLING = f"1_Pooling/{SETTINGS}"
DENSE_FOLDERS = ("2_Dense", "3_Dense")
NORMALIZE = f"2_Normalize/{SETTINGS}"
NORMALIZES = (NORMALIZE, f"3_Normalize/{SETTINGS}", f"4_Normalize/{SETTINGS}")
"""After no Dense module, one or two."""
DENSE_FILES = tuple(f"{folder}/{name}" for folder in DENSE_FOLDERS for name in (SETTINGS, WEIGHTS_NAME))
SENTENCE_FILES = (MODULES, GENERAL, *ENCODERS, POOLING, *DENSE_FILES, *NORMALIZES)

_CTC_TOKENIZERS = ("Wav2Vec2CTCTokenizer",)
_WORD_PIECES = ("BertTokenizer", "BertTokenizerFast", "DistilBertTokenizer", "DistilBertTokenizerFast")
BYTE_PAIRS = ("RobertaTokenizer", "RobertaTokenizerFast")
_WHISPER = ("WhisperTokenizer", "WhisperTokenizerFast")
_GPT2 = ("GPT2Tokenizer", "GPT2TokenizerFast")
LLAMA_TOKENIZERS = ("LlamaTokenizer", "LlamaTokenizerFast")
_QWEN2 = ("Qwen2Tokenizer", "Qwen2TokenizerFast")
# Whose words are in tokenizer.json alone: the file that sentencepiece wrote is not read.
_PIECES = tuple(f"{line}Tokenizer{kind}" for line in ("XLMRoberta", "MPNet", "Camembert") for kind in ("", "Fast"))
_OF_TEXT = (*_WORD_PIECES, "ElectraTokenizer", "ElectraTokenizerFast", *BYTE_PAIRS, *_GPT2, *_PIECES)
_CODEGEN = ("CodeGenTokenizer", "CodeGenTokenizerFast")
_GEMMA = ("GemmaTokenizer", "GemmaTokenizerFast")
_OF_DECODERS = (*LLAMA_TOKENIZERS, *_QWEN2, *_CODEGEN, *_GEMMA)
_GEMMAS = ("gemma", "gemma2", "gemma3_text")
_DECODERS = ("llama", "mistral", "qwen2", "qwen3", "phi", "phi3", *_GEMMAS)
"""Model types that any of these may be of as well."""
"""An encoder may have been trained on any tokens: multilingual-e5-small is a BERT of XLM-RoBERTa's, klue/roberta-base a
RoBERTa of BERT's."""
ROBERTAS = ("roberta", "xlm-roberta", "camembert", "clap_text_model")
"""Model types that count positions from behind the padding token's number."""
FIRST_POSITION_OF_MPNET = 2
"""As if its padding token were always the second word, as in what was published it is."""
_FIRST = {
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "mpnet": "MPNetTokenizer",
    **dict.fromkeys(ROBERTAS, "RobertaTokenizer"),
    "xlm-roberta": "XLMRobertaTokenizer",
    "camembert": "CamembertTokenizer",
    "modernbert": "PreTrainedTokenizerFast",
    **dict.fromkeys(("gpt2", "opt", "phi"), "GPT2Tokenizer"),
    **dict.fromkeys(("llama", "mistral", "phi3"), "LlamaTokenizer"),
    **dict.fromkeys(("qwen2", "qwen3"), "Qwen2Tokenizer"),
    **dict.fromkeys(_GEMMAS, "GemmaTokenizer"),
}
# These take tokenizer.json as it is, whatever the model.
GENERIC = ("PreTrainedTokenizerFast", "TokenizersBackend")
_VOCABULARIES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys((*_WORD_PIECES, "ElectraTokenizer", "ElectraTokenizerFast"), ((WHOLE,), ("vocab.txt",))),
    **dict.fromkeys((*BYTE_PAIRS, *_WHISPER, *_GPT2, *_QWEN2, *_CODEGEN), ((WHOLE,), ("vocab.json", "merges.txt"))),
    **dict.fromkeys(_CTC_TOKENIZERS, (("vocab.json",),)),
}


def preprocessor_settings(processor: Mapping[str, Any] | None, preprocessor: Mapping[str, Any] | None) -> Any:
    """Settings of the feature extractor or image processor, from the two files that may hold them; None where neither does."""
    for part in _PARTS:
        if processor is not None and isinstance(processor.get(part), dict):
            return processor[part]
    return preprocessor


def preprocessor_type(settings: Mapping[str, Any]) -> Any:
    """The class that the settings name; None where they name none, as image processors' did not before transformers 4.25."""
    return next((settings[key] for key in TYPE_FIELDS if settings.get(key) is not None), None)


def tokenizer_classes(model_type: str) -> tuple[str, ...]:
    """Classes of transformers that may read the tokenizer of this model; the first where its settings name none."""
    if model_type in _FIRST:
        first = _FIRST[model_type]
        others = (*_OF_TEXT, *(_OF_DECODERS if model_type in _DECODERS else ()), *GENERIC)
        return (first, *(each for each in others if each != first))
    return (*_WHISPER, *GENERIC) if model_type == "whisper" else _CTC_TOKENIZERS


def named_tokenizer(model_type: str, config: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    """The class that tokenizer_config.json (`settings`) names, or config.json, or else the model's own, as transformers goes by.

    What config.json says counts where it can be: older versions wrote names there that no version has today.
    """
    allowed, said = tokenizer_classes(model_type), config.get("tokenizer_class")
    return settings.get("tokenizer_class") or (said if said in allowed else allowed[0])


def vocabularies(tokenizer: str) -> tuple[tuple[str, ...], ...]:
    """Files that a tokenizer of this class has its words from: of the first that are all there."""
    return _VOCABULARIES.get(tokenizer, ((WHOLE,),))


def needs_tokenizer(modality: Modality, head: Head) -> bool:
    """Whether a checkpoint reads or writes text."""
    return modality is Modality.TEXT or head in (Head.CTC, Head.SEQUENCE_TO_SEQUENCE)
