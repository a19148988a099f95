"""Checkpoint folders of every family without their weights: config.json and what makes inputs, built here, no download.

Small sizes; the files are those that transformers itself saves.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    ASTFeatureExtractor,
    BertTokenizer,
    BitImageProcessorPil,
    CamembertTokenizer,
    ClapFeatureExtractor,
    CLIPImageProcessorPil,
    CodeGenTokenizer,
    DeiTImageProcessorPil,
    DistilBertTokenizer,
    ElectraTokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    MPNetTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    RobertaTokenizer,
    SeamlessM4TFeatureExtractor,
    SiglipImageProcessorPil,
    ViTImageProcessorPil,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Processor,
    WhisperFeatureExtractor,
    WhisperProcessor,
    WhisperTokenizer,
    XLMRobertaTokenizer,
)

RATE = 16_000
SIDE = 32
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"
WORD_PIECES = ("good", "bad", "film", "##s", "the", "ada", "love", "##lace", "sleep", "in", "london", "a", "b", ".")
CORPUS = ("the good films", "a bad film", "ada lovelace sleeps in london", "go up and go down", "one two three")
MODEL_TYPES = {
    "ast": "audio-spectrogram-transformer",
    "bert": "bert",
    "distilbert": "distilbert",
    "electra": "electra",
    "mpnet": "mpnet",
    "modernbert": "modernbert",
    "roberta": "roberta",
    "xlm-roberta": "xlm-roberta",
    "camembert": "camembert",
    "gpt2": "gpt2",
    "opt": "opt",
    "llama": "llama",
    "mistral": "mistral",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "phi": "phi",
    "phi3": "phi3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "clap_text": "clap_text_model",
    "vit": "vit",
    "deit": "deit",
    "clip_vision": "clip_vision_model",
    "dinov2": "dinov2",
    "dinov3": "dinov3_vit",
    "siglip_vision": "siglip_vision_model",
    "waveform": "wav2vec2",
    "ctc": "hubert",
    "mel_frames": "wav2vec2-bert",
    "whisper": "whisper",
    "qwen2_audio_encoder": "qwen2_audio_encoder",
    "clap": "clap_audio_model",
}


def write(kind: str, folder: Path, **config: Any) -> Path:
    """The folder of one of MODEL_TYPES; `config` is added to config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    built = _BUILDERS[kind](folder)
    (folder / "config.json").write_text(json.dumps({"model_type": MODEL_TYPES[kind], **built, **config}))
    return folder


def _word_piece(folder: Path, kind: Any) -> dict[str, Any]:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORD_PIECES]
    kind(vocab={token: number for number, token in enumerate(vocabulary)}).save_pretrained(folder)
    return {"vocab_size": len(vocabulary), "max_position_embeddings": 64}


def _mpnet(folder: Path) -> dict[str, Any]:
    """BERT's words, with RoBERTa's special tokens before them."""
    vocabulary = ["<s>", "<pad>", "</s>", "[UNK]", *WORD_PIECES, "<mask>"]
    MPNetTokenizer(vocab={token: number for number, token in enumerate(vocabulary)}).save_pretrained(folder)
    return {"vocab_size": len(vocabulary), "max_position_embeddings": 66, "pad_token_id": 1}


def _byte_pairs(special: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """(vocabulary, merges) learnt from CORPUS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    learnt = json.loads(tokenizer.to_str())["model"]
    return learnt["vocab"], [(first, second) for first, second in learnt["merges"]]


def _roberta(folder: Path) -> dict[str, Any]:
    vocabulary, merges = _byte_pairs(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    RobertaTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    return {"vocab_size": len(vocabulary), "max_position_embeddings": 66, "pad_token_id": 1}


def _modern(folder: Path) -> dict[str, Any]:
    """Bytes in pairs between BERT's special tokens, in tokenizer.json alone."""
    special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    vocabulary, merges = _byte_pairs(list(special.values()))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", ends)
    names = {f"{name}_token": token for name, token in special.items()}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    ids = {f"{name}_token_id": vocabulary[special[name]] for name in ("pad", "cls", "sep")}
    tied = {"bos_token_id": ids["cls_token_id"], "eos_token_id": ids["sep_token_id"]}
    return {"vocab_size": len(vocabulary), "max_position_embeddings": 64, **ids, **tied}


def _gpt2(folder: Path) -> dict[str, Any]:
    vocabulary, merges = _byte_pairs(["<|endoftext|>"])
    GPT2Tokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    return {"vocab_size": len(vocabulary), "n_positions": 64, "bos_token_id": 0, "eos_token_id": 0}


def _opt(folder: Path) -> dict[str, Any]:
    """GPT-2's line, with a token that begins every text."""
    vocabulary, merges = _byte_pairs(["<s>", "<pad>", "</s>", "<unk>"])
    special = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    GPT2Tokenizer(vocab=vocabulary, merges=merges, add_bos_token=True, **special).save_pretrained(folder)
    return {"vocab_size": len(vocabulary), "max_position_embeddings": 64, "pad_token_id": 1}


def _llama(folder: Path) -> dict[str, Any]:
    """Llama 3's: bytes in pairs behind a token that begins every text, in tokenizer.json alone, and none to pad with."""
    vocabulary, merges = _byte_pairs(["<|begin_of_text|>", "<|end_of_text|>"])
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        "<|begin_of_text|> $A", "<|begin_of_text|> $A $B", [("<|begin_of_text|>", 0)]
    )
    special = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return {"vocab_size": len(vocabulary), "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 1}


def _mistral(folder: Path) -> dict[str, Any]:
    """Llama 2's: pieces with a letter for a space, and bytes for what has none."""
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    letters = sorted({letter for text in CORPUS for letter in text} - {" "})
    pieces = ["<unk>", "<s>", "</s>", *bytes_, "▁", *letters]
    LlamaTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)}, merges=[], add_bos_token=True
    ).save_pretrained(folder)
    return {"vocab_size": len(pieces), "max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2}


def _qwen2(folder: Path) -> dict[str, Any]:
    vocabulary, merges = _byte_pairs(["<|endoftext|>"])
    Qwen2Tokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    return {"vocab_size": len(vocabulary), "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0}


def _phi(folder: Path) -> dict[str, Any]:
    vocabulary, merges = _byte_pairs(["<|endoftext|>"])
    CodeGenTokenizer(vocab=vocabulary, merges=merges).save_pretrained(folder)
    return {"vocab_size": len(vocabulary), "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0}


def _gemma(folder: Path) -> dict[str, Any]:
    """Pieces with a letter for a space wherever one stands, behind a token that begins every text."""
    bytes_ = [f"<0x{number:02X}>" for number in range(256)]
    letters = sorted({letter for text in CORPUS for letter in text} - {" "})
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *bytes_, "▁", *letters]
    GemmaTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)}, merges=[], add_bos_token=True
    ).save_pretrained(folder)
    return {"vocab_size": len(pieces), "max_position_embeddings": 64}


def _pieces(folder: Path, kind: Any) -> dict[str, Any]:
    """Of XLM-RoBERTa's line: what sentencepiece counted, whole words and every letter of CORPUS."""
    words = sorted({f"▁{word}" for text in CORPUS for word in text.split()})
    letters = sorted({letter for text in CORPUS for letter in text} - {" "})
    special = ("<s>", "<pad>", "</s>", "<unk>")
    pieces = [*special, "▁", *words, *letters, "<mask>"]
    kind(vocab=[(piece, -float(number)) for number, piece in enumerate(pieces)]).save_pretrained(folder)
    return {"vocab_size": len(pieces) + 3, "max_position_embeddings": 66, "pad_token_id": 1}


def _vit(folder: Path) -> dict[str, Any]:
    ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return {"image_size": SIDE}


def _deit(folder: Path) -> dict[str, Any]:
    larger = {"height": SIDE + 4, "width": SIDE + 4}
    DeiTImageProcessorPil(size=larger, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return {"image_size": SIDE}


def _clip_vision(folder: Path) -> dict[str, Any]:
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=SIDE).save_pretrained(folder)
    return {"image_size": SIDE}


def _dinov2(folder: Path) -> dict[str, Any]:
    """Positions for larger images than are read, as in what was published."""
    BitImageProcessorPil(size={"shortest_edge": SIDE + 4}, crop_size=SIDE).save_pretrained(folder)
    return {"image_size": SIDE + 16}


def _dinov3(folder: Path) -> dict[str, Any]:
    """Settings as published: transformers writes them with torchvision alone."""
    said = {
        "image_processor_type": "DINOv3ViTImageProcessorFast",
        "do_resize": True,
        "size": {"height": SIDE, "width": SIDE},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 0.00392156862745098,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "do_center_crop": None,
        "crop_size": None,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return {"image_size": SIDE}


def _siglip_vision(folder: Path) -> dict[str, Any]:
    SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return {"image_size": SIDE}


def _waveform(folder: Path) -> dict[str, Any]:
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return {"conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2]}


def _ctc(folder: Path) -> dict[str, Any]:
    vocabulary = {token: number for number, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *LETTERS])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(do_normalize=True), tokenizer).save_pretrained(folder)
    return {
        "vocab_size": len(vocabulary),
        "pad_token_id": 0,
        "conv_dim": [8],
        "conv_kernel": [400],
        "conv_stride": [320],
    }


def _mel_frames(folder: Path) -> dict[str, Any]:
    """Tokens of two frames of 20 bins."""
    letters = {key: value for key, value in _ctc(folder).items() if not key.startswith("conv")}
    (folder / "processor_config.json").unlink(missing_ok=True)
    SeamlessM4TFeatureExtractor(feature_size=20, num_mel_bins=20).save_pretrained(folder)
    return {**letters, "feature_projection_input_dim": 40}


def _whisper(folder: Path) -> dict[str, Any]:
    vocabulary, merges = _byte_pairs([])
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=merges)
    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|en|>",
        "<|translate|>",
        "<|transcribe|>",
        "<|notimestamps|>",
    ]
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    tokenizer.set_prefix_tokens(language="en", task="transcribe")
    extractor = WhisperFeatureExtractor(feature_size=16, chunk_length=2)
    WhisperProcessor(extractor, tokenizer).save_pretrained(folder)
    return {
        "vocab_size": len(tokenizer),
        "num_mel_bins": 16,
        "max_source_positions": 100,
        "max_target_positions": 40,
        "decoder_start_token_id": tokenizer.convert_tokens_to_ids("<|startoftranscript|>"),
    }


def _qwen2_audio_encoder(folder: Path) -> dict[str, Any]:
    WhisperFeatureExtractor(feature_size=16, chunk_length=2).save_pretrained(folder)
    return {"num_mel_bins": 16, "max_source_positions": 100}


def _ast(folder: Path) -> dict[str, Any]:
    ASTFeatureExtractor(num_mel_bins=32, max_length=40).save_pretrained(folder)
    return {"num_mel_bins": 32, "max_length": 40}


def _clap(folder: Path) -> dict[str, Any]:
    extractor = ClapFeatureExtractor(
        feature_size=16, sampling_rate=RATE, hop_length=160, max_length_s=1, frequency_max=7000
    )
    extractor.save_pretrained(folder)
    return {"num_mel_bins": 16, "enable_fusion": False}


_BUILDERS: Any = {
    "ast": _ast,
    "bert": lambda folder: _word_piece(folder, BertTokenizer),
    "distilbert": lambda folder: _word_piece(folder, DistilBertTokenizer),
    "mpnet": _mpnet,
    "electra": lambda folder: _word_piece(folder, ElectraTokenizer),
    "modernbert": _modern,
    "roberta": _roberta,
    "xlm-roberta": lambda folder: _pieces(folder, XLMRobertaTokenizer),
    "camembert": lambda folder: _pieces(folder, CamembertTokenizer),
    "clap_text": _roberta,
    "gpt2": _gpt2,
    "opt": _opt,
    "llama": _llama,
    **dict.fromkeys(("mistral", "phi3"), _mistral),
    **dict.fromkeys(("qwen2", "qwen3"), _qwen2),
    **dict.fromkeys(("gemma", "gemma2", "gemma3"), _gemma),
    "phi": _phi,
    "vit": _vit,
    "deit": _deit,
    "clip_vision": _clip_vision,
    "dinov2": _dinov2,
    "dinov3": _dinov3,
    "siglip_vision": _siglip_vision,
    "waveform": _waveform,
    "ctc": _ctc,
    "mel_frames": _mel_frames,
    "whisper": _whisper,
    "qwen2_audio_encoder": _qwen2_audio_encoder,
    "clap": _clap,
}
