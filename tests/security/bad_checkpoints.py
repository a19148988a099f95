"""Checkpoints that must not get in: weights, configurations and names."""

import gzip
import io
import json
import pickle
import zipfile
from typing import Any

import numpy as np
from safetensors.numpy import save

from tests.security.attack import Row, checkpoint, left_out, names
from tests.support.uploads import ast_config, ast_tensors, preprocessor_config, safetensors_bytes

WEIGHTS = "model.safetensors"


def entry(start: int, end: int, shape: list[Any] | None = None, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(end - start) // 4] if shape is None else shape, "data_offsets": [start, end]}


def weights(what: str, header: Any, data: bytes = b"", code: str = "safetensors_invalid") -> Row:
    """A safetensors file with this header: a text as it is, anything else as JSON."""
    text = header if isinstance(header, str) else json.dumps(header)
    return checkpoint(what, code, lambda: {WEIGHTS: safetensors_bytes(text, data)})


def whole(what: str, data: bytes, code: str = "safetensors_invalid", name: str = WEIGHTS) -> Row:
    return checkpoint(what, code, lambda: {name: data})


def spoilt(value: float) -> bytes:
    tensors = ast_tensors(ast_config())
    next(iter(tensors.values())).flat[-1] = value
    return save(tensors)


def nested(depth: int, value: Any) -> Any:
    for _ in range(depth):
        value = {"a": [value]}
    return value


def config(what: str, code: str = "config_invalid", **changes: Any) -> Row:
    return checkpoint(what, code, lambda: {"config.json": json.dumps(ast_config(**changes)).encode()})


def config_text(what: str, text: bytes, code: str = "config_invalid", status: int = 422) -> Row:
    return checkpoint(what, code, lambda: {"config.json": text}, status)


def settings(what: str, code: str = "config_invalid", **changes: Any) -> Row:
    body = json.dumps(preprocessor_config(**changes)).encode()
    return checkpoint(what, code, lambda: {"preprocessor_config.json": body})


def generation(what: str, code: str = "config_invalid", **said: Any) -> Row:
    return checkpoint(what, code, lambda: {"generation_config.json": json.dumps(said).encode()})


def zipped() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps({}))
    return archive.getvalue()


def sharded(index: dict[str, Any]) -> Row:
    what = f"an index that names {next(iter(index.values()), 'nothing')!r}"
    files = {"model.safetensors.index.json": json.dumps({"weight_map": index}).encode()}
    shards = {"model-00001-of-00001.safetensors": save(ast_tensors(ast_config()))}

    def send(target: Any) -> Any:
        own = {
            "config.json": json.dumps(ast_config()).encode(),
            "preprocessor_config.json": json.dumps(preprocessor_config()).encode(),
        }
        return target.send({**own, **files, **shards}, "models")

    return Row(what, send, 422, "config_invalid")


FOUR = bytes(4)
WEIGHT_ROWS = (
    whole("weights of no bytes", b""),
    whole("weights of five bytes", b"\x02\0\0\0\0"),
    whole("a header of 2^63 bytes", (2**63).to_bytes(8, "little") + b"{}"),
    whole("a header just over the bound", (8 * 2**20 + 1).to_bytes(8, "little") + b"{}" + bytes(100)),
    whole("a header cut off in the middle", (1000).to_bytes(8, "little") + b'{"a": '),
    weights("a header that is not JSON", "{not json}"),
    weights("a header that is a list", []),
    weights("a header nested a thousand levels deep", '{"a":' + "[" * 1000 + "]" * 1000 + "}"),
    weights("a key twice", '{"a":%s,"a":%s}' % ((json.dumps(entry(0, 4)),) * 2), FOUR),
    weights("two tensors over one another", {"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)),
    weights("a hole between two tensors", {"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)),
    weights("bytes behind the last tensor", {"a": entry(0, 4)}, bytes(8)),
    weights("an end beyond the file", {"a": entry(0, 400)}, FOUR),
    weights("an end of 2^64 and four", {"a": entry(0, 2**64 + 4, [1])}, FOUR),
    weights("an end before the start", {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}, FOUR),
    weights("a shape whose product overflows to four bytes", {"a": entry(0, 4, [2**32, 2**32, 1])}, FOUR),
    weights("a shape of 2^40 beside a zero", {"a": entry(0, 0, [2**40, 0])}),
    weights("a negative shape", {"a": entry(0, 4, [-1, -1])}, FOUR),
    weights("a shape of fractions", {"a": entry(0, 4, [1.0])}, FOUR),
    weights("a shape of true", {"a": entry(0, 4, [True])}, FOUR),
    weights("too many dimensions", {"a": entry(0, 4, [1] * 5000)}, FOUR),
    weights("a dtype of the wrong width", {"a": entry(0, 4, [1], "F64")}, FOUR),
    weights("an unknown dtype", {"a": entry(0, 4, [1], "OBJECT")}, FOUR),
    weights("a dtype that is a number", {"a": {**entry(0, 4), "dtype": 7}}, FOUR),
    weights("an entry with more than it has", {"a": {**entry(0, 4), "code": "x"}}, FOUR),
    weights("a tensor named ../../etc/passwd", {"../../etc/passwd": entry(0, 4)}, FOUR),
    weights("a tensor whose name has a NUL", {"a\0b": entry(0, 4)}, FOUR),
    weights("a tensor with a name of a million letters", {"a" * 10**6: entry(0, 4)}, FOUR),
    weights("metadata that is no text", {"__metadata__": {"a": {"b": 1}}, "a": entry(0, 4)}, FOUR),
    weights("a NaN in the header", '{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}', FOUR),
    weights("sixty-six thousand empty tensors", {f"t{n}": entry(0, 0, [0]) for n in range(66_000)}),
    whole("a weight that is NaN", spoilt(np.nan), "weights_not_finite"),
    whole("a weight that is infinite", spoilt(-np.inf), "weights_not_finite"),
    whole("weights of another model", save({"a": np.zeros(3, np.float32)}), "weights_mismatch"),
    whole("a pickle named safetensors", pickle.dumps({"a": 1}), "file_type_refused"),
    whole("an old pickle named safetensors", b"cposix\nsystem\n(S'id'\ntR.", "file_type_refused"),
    whole("what torch.save writes, named safetensors", zipped(), "file_type_refused"),
    whole("a pickle named config.json", pickle.dumps({"a": 1}), "file_type_refused", "config.json"),
    whole("a gzip named config.json", gzip.compress(b"{}", mtime=0), "file_type_refused", "config.json"),
)

CONFIG_ROWS = (
    config("a width of 10^9", hidden_size=10**9),
    config("a width of 10^400", hidden_size=10**400),
    config("10^9 layers", num_hidden_layers=10**9),
    config("widths that do not fit the weights", "weights_mismatch", intermediate_size=128),
    config("heads that do not divide the width", num_attention_heads=5),
    config("a negative width", hidden_size=-32),
    config("no heads", num_attention_heads=0),
    config("a width in a text", hidden_size="32"),
    config("a patch larger than the input", patch_size=2**19),
    config("an activation that is code", hidden_act="os.system"),
    config("a mixed-up attention", sliding_window=4),
    config("an object where a number belongs", layer_norm_eps={"a": 1}),
    config("labels with a gap", id2label={"0": "a", "2": "b"}),
    config(
        "auto_map of an own class", "code_refused", auto_map={"AutoModel": "evil.Model"}, architectures=["EvilModel"]
    ),
    config("auto_map, eight levels deep", "code_refused", label2id=nested(4, {"auto_map": {"AutoModel": "x.Y"}})),
    config("custom_pipelines", "code_refused", custom_pipelines={"x": {"impl": "evil.Pipeline"}}),
    config("trust_remote_code", "code_refused", trust_remote_code=True),
    config("attention from a repository of kernels", "code_refused", _attn_implementation="someone/kernels"),
    config("quantized weights", quantization_config={"quant_method": "gptq"}),
    config("another architecture", "architecture_unsupported", architectures=["BloomForCausalLM"], model_type="bloom"),
    config_text("a NaN in config.json", b'{"hidden_size": NaN}'),
    config_text("Infinity in config.json", b'{"layer_norm_eps": -Infinity}'),
    config_text("a number that Python reads as infinity", b'{"layer_norm_eps": 1e400}'),
    config_text("a key of config.json twice", b'{"model_type": "vit", "model_type": "bert"}'),
    config_text("config.json nested 100,000 levels deep", b'{"a":' + b"[" * 10**5 + b"]" * 10**5 + b"}"),
    config_text("config.json that is a list", b"[]"),
    config_text("config.json in another encoding", '{"a": "ü"}'.encode("utf-16")),
    config_text("config.json of 20 MB", b'{"a": "' + b"x" * 20 * 10**6 + b'"}', "request_too_large", 413),
    settings("auto_map in the preprocessor", "code_refused", auto_map={"AutoFeatureExtractor": "evil.Extractor"}),
    settings("an unknown padding of the preprocessor", padding_side=["evil"]),
    settings("another extractor", feature_extractor_type="SpeechT5FeatureExtractor"),
    settings("a sampling rate of 10^9", sampling_rate=10**9),
    settings("a standard deviation of 0", std=0.0),
    generation("code in the settings of generation", "code_refused", custom_generate="someone/repository"),
    generation("a setting of generation under a method's name", validate=1),
    generation("a length of generation in a text", max_length="long"),
    whole("settings of generation that are a list", b"[]", "config_invalid", "generation_config.json"),
    whole("a chat template that is no text", b"{{ \xff }}", "file_type_refused", "chat_template.jinja"),
)

NAME_ROWS = (
    names("a pickle by name", "file_type_refused", "pytorch_model.bin", without=WEIGHTS),
    names("code", "file_type_refused", "modeling_evil.py", without=WEIGHTS),
    names("a library", "file_type_refused", "kernel.so", without=WEIGHTS),
    left_out("a pickle beside weights", "pytorch_model.bin", pickle.dumps({"a": 1})),
    left_out("code beside weights", "modeling_evil.py", b"import os"),
    left_out("code in a folder that is kept of", "1_Pooling/modeling_evil.py", b"import os"),
    left_out("a file that no checkpoint has", "notes.json", b"{}"),
    names("a name that leads outside", "file_name_refused", "../config.json"),
    names("an absolute name", "file_name_refused", "/etc/passwd"),
    names("a name of Windows that leads outside", "file_name_refused", "..\\..\\boot.ini"),
    names("a name with a NUL", "file_name_refused", "config\0.json"),
    names("a name that reads backwards", "file_name_refused", "config\u202enosj.json"),
    names("a name of 300 characters", "file_name_refused", "a" * 295 + ".json"),
    names("a path of 300 characters", "file_name_refused", "/".join(["a" * 59] * 5)),
    names("a path of nine names", "file_name_refused", "a/" * 8 + "b"),
    names("a folder that leads outside", "file_name_refused", "1_Pooling/../../config.json"),
    names("a folder that leads nowhere", "file_name_refused", "1_Pooling/./config.json"),
    names("a folder without a name", "file_name_refused", "1_Pooling//config.json"),
    names("a folder of Windows", "file_name_refused", "1_Pooling\\config.json"),
    names("a slash in percents", "file_name_refused", "1_Pooling%2Fconfig.json"),
    names("a folder alone", "file_name_refused", "1_Pooling/"),
    names("a file that is a folder, too", "file_unexpected", "1_Pooling", "1_Pooling/config.json"),
    names("a hidden name of a dataset", "file_name_refused", ".train.parquet", kind="datasets"),
    names("a folder of a dataset", "file_name_refused", "data/train.parquet", kind="datasets"),
    names("a device of Windows", "file_name_refused", "CON.json"),
    names("a device of Windows in a folder", "file_name_refused", "aux/config.json"),
    names("a device as the name of a split", "file_name_refused", "aux.parquet", kind="datasets"),
    names("a file twice", "file_unexpected", "config.json"),
    names("a dataset of text", "file_unexpected", "train.csv", kind="datasets"),
    sharded({"a": "../../../etc/passwd"}),
    sharded({"a": "https://example.org/model.safetensors"}),
    sharded({"a": 7}),
    sharded({}),
)

ROWS = WEIGHT_ROWS + CONFIG_ROWS + NAME_ROWS
