"""Uploads in memory, without torch: a small untrained AST checkpoint and shards of short tones, whole or spoilt."""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from httpx import Response
from PIL import Image
from safetensors.numpy import save
from starlette.testclient import TestClient

from checkpoints.config.pruned_layout import stock_config
from checkpoints.families import AST
from checkpoints.families.text.bert import BERT

LABELS = ("down", "left", "right", "up")
EMBEDDED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def ast_config(**changes: Any) -> dict[str, Any]:
    """config.json of an AST with two layers of four heads of width eight. `label2id` follows `id2label`."""
    config = {
        "architectures": ["ASTForAudioClassification"],
        "model_type": "audio-spectrogram-transformer",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_length": 32,
        "num_mel_bins": 32,
        "id2label": {str(index): label for index, label in enumerate(LABELS)},
    } | changes
    return {"label2id": {label: int(index) for index, label in (config["id2label"] or {}).items()}} | config


NARROW: tuple[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...] = (((), (), ()), ((3, 8), (5, 2), (1, 3)))
"""Of `pruned_ast_config`, by layer: QK and VO widths of the heads that are left, and their numbers."""


def pruned_ast_config(**changes: Any) -> dict[str, Any]:
    """config.json of such an AST that a job left without attention in its first layer, in the layout of Secateur's own."""
    config = ast_config()
    sites = AST.layout(config, AST.architectures["ASTForAudioClassification"])
    attention = [
        {"module": site.module, "kind": "self", "q": site.q, "k": site.k, "v": site.v, "o": site.o, "pairs": 36,
         "qk": list(qk), "vo": list(vo), "heads": list(heads)}
        for site, (qk, vo, heads) in zip(sites.attention, NARROW, strict=True)
    ]  # fmt: skip
    neurons = [
        {"first": pair.first, "second": pair.second, "neurons": count}
        for pair, count in zip(sites.feed_forward, (7, 64), strict=True)
    ]
    return config | {
        "architectures": ["PrunedASTForAudioClassification"],
        "auto_map": {"AutoConfig": "configuration_pruned.PrunedASTConfig"},
        "_attn_implementation": "pruned: load it with trust_remote_code=True",
        "pruned_attention": attention,
        "pruned_feed_forward": neurons,
    } | changes  # fmt: skip


def preprocessor_config(**changes: Any) -> dict[str, Any]:
    return {
        "feature_extractor_type": "ASTFeatureExtractor",
        "max_length": 32,
        "num_mel_bins": 32,
        "sampling_rate": 16000,
    } | changes


def ast_tensors(config: Mapping[str, Any], naming: int = 0, dtype: str = "float32") -> dict[str, np.ndarray]:
    """The tensors of a config, under the family's `naming`-th way of naming them in the file."""
    architecture = AST.architectures["ASTForAudioClassification"]
    said, labels = stock_config(config)[1], len(config.get("id2label", "12"))
    widths = None if said is None else said.read(AST.layout(config, architecture))
    shapes = AST.tensors(config, architecture, labels, widths)
    random = np.random.default_rng(0)
    return {
        AST.saved_as(naming, name): random.normal(size=shape).astype(dtype) for name, shape in sorted(shapes.items())
    }


def checkpoint_files(config: dict[str, Any] | None = None, **replaced: bytes | None) -> dict[str, bytes]:
    """Files of a checkpoint by name. `replaced`: `config`, `preprocessor`, `weights` as other bytes, None for absent."""
    config = config or ast_config()
    files: dict[str, bytes | None] = {
        "config.json": json.dumps(config).encode(),
        "preprocessor_config.json": json.dumps(preprocessor_config()).encode(),
        "model.safetensors": save(ast_tensors(config)),
    }
    names = {"config": "config.json", "preprocessor": "preprocessor_config.json", "weights": "model.safetensors"}
    files |= {names[key]: data for key, data in replaced.items()}
    return {name: data for name, data in files.items() if data is not None}


def sentence_files(**settings: Any) -> dict[str, bytes]:
    """A folder of sentence-transformers with a BertModel of two layers; `settings` are those of its pooling."""
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "vocab_size": 30,
    }
    config = {"architectures": ["BertModel"], "model_type": "bert", **sizes}
    random = np.random.default_rng(0)
    shapes = BERT.tensors(config, BERT.architectures["BertModel"], 0)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(kinds.items())
    ]
    said = {
        "config.json": config,
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": 64, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": 32, **settings},
    }
    return {
        **{name: json.dumps(value).encode() for name, value in said.items()},
        "vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n",
        "model.safetensors": save(
            {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}
        ),
    }


def safetensors_bytes(header: str, data: bytes = b"") -> bytes:
    """A file with just this header text."""
    return len(header.encode()).to_bytes(8, "little") + header.encode() + data


def tone(pitch: float = 440.0, seconds: float = 0.1, rate: int = 16000, kind: str = "WAV") -> bytes:
    """A clip, encoded."""
    buffer = io.BytesIO()
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)
    soundfile.write(buffer, wave.astype("float32"), rate, format=kind)
    return buffer.getvalue()


def shard(
    clips: Sequence[bytes | None],
    labels: Sequence[Any],
    *,
    label_type: pa.DataType | None = None,
    features: Mapping[str, Any] | None = None,
    label_column: str = "label",
) -> bytes:
    """A parquet shard. `features`: what `datasets` would write beside the schema."""
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    fields = [("audio", EMBEDDED), (label_column, label_type or pa.string())]
    table = pa.table(
        {"audio": [{"bytes": clip, "path": "a.wav"} for clip in clips], label_column: list(labels)},
        schema=pa.schema(fields, metadata),
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def picture(colour: tuple[int, int, int] = (200, 30, 30), size: tuple[int, int] = (24, 16), kind: str = "PNG") -> bytes:
    """An image of one colour with a darker corner, encoded."""
    image = Image.new("RGB", size, colour)
    image.paste((10, 10, 10), (0, 0, size[0] // 3, size[1] // 3))
    return encoded_picture(image, kind)


def encoded_picture(image: Image.Image, kind: str = "PNG") -> bytes:
    """The bytes of a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def table(features: Mapping[str, Any] | None = None, **columns: tuple[pa.DataType, Sequence[Any]]) -> bytes:
    """A parquet shard of these columns, each a type and its values; bytes in a column of EMBEDDED are wrapped."""
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    values = {
        name: [{"bytes": value, "path": None} for value in given] if type_ == EMBEDDED else list(given)
        for name, (type_, given) in columns.items()
    }
    schema = pa.schema([(name, type_) for name, (type_, _) in columns.items()], metadata)
    buffer = io.BytesIO()
    pq.write_table(pa.table(values, schema=schema), buffer)
    return buffer.getvalue()


def class_label(names: Sequence[str] = LABELS) -> dict[str, Any]:
    """The features of an Audio and a ClassLabel column."""
    return {"audio": {"_type": "Audio"}, "label": {"names": list(names), "_type": "ClassLabel"}}


def repeated_rows(rows: int = 3_000_000) -> bytes:
    """A shard of a few hundred kilobytes that takes the better part of a minute to read."""
    same = pa.array(["so"]).dictionary_encode()
    column = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), same.dictionary)
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": column, "label": column}), buffer)
    return buffer.getvalue()


def dataset_files(labels: Sequence[str] = LABELS) -> dict[str, bytes]:
    """Three splits with a clip a label."""
    clips = [tone(200.0 + 50 * index) for index in range(len(labels))]
    return {f"{split}.parquet": shard(clips, labels) for split in ("train", "validation", "test")}


def declared(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """The `files` of an upload request."""
    return [
        {"name": name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
    ]


def send(client: TestClient, kind: str, files: Mapping[str, bytes]) -> Response:
    """Declare, send and complete; returns the first answer that is an error, else that of `complete`."""
    answer = client.post(f"/v1/{kind}", json={"files": declared(files)})
    if answer.is_error:
        return answer
    address = answer.headers["location"]
    for name, data in files.items():
        answer = client.put(f"{address}/files/{name}", content=data)
        if answer.is_error:
            return answer
    return client.post(f"{address}/complete")
