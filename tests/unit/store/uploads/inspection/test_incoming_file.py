"""A file judged as it arrives, in chunks of any size."""

import json
import pickle
import zipfile
from io import BytesIO

import pytest

from api_schemas.errors import ErrorCode, SecateurError
from store.uploads.inspection.incoming_file import IncomingFile
from tests.support.uploads import ast_config, checkpoint_files, dataset_files, safetensors_bytes

MAX_JSON = 2**16


def arrive(name: str, data: bytes, chunk: int) -> None:
    incoming = IncomingFile(name, len(data), MAX_JSON)
    for start in range(0, len(data), chunk):
        incoming.feed(data[start : start + chunk])
    incoming.finish()


def refusal(name: str, data: bytes) -> ErrorCode:
    codes = set()
    for chunk in (1, 7, 2**20):
        with pytest.raises(SecateurError) as caught:
            arrive(name, data, chunk)
        codes.add(caught.value.code)
    (code,) = codes
    return code


@pytest.mark.parametrize("chunk", [1, 100, 2**20])
def test_good_files_pass_in_any_pieces(chunk: int) -> None:
    for name, data in {**checkpoint_files(), **dataset_files(), "README.md": b"# A model"}.items():
        arrive(name, data, chunk)


def test_settings_of_generation_that_transformers_could_not_read_are_refused_where_they_arrive() -> None:
    arrive("generation_config.json", b'{"eos_token_id": [1, 2], "do_sample": true, "temperature": 0.6}', 7)
    with pytest.raises(
        SecateurError, match=r"generation_config\.json: `max_new_tokens`: must be a whole number"
    ) as caught:
        arrive("generation_config.json", b'{"max_new_tokens": 0}', 7)
    assert [item.pointer for item in caught.value.errors] == ["/generation_config.json/max_new_tokens"]
    assert refusal("generation_config.json", b'{"validate": 1}') is ErrorCode.CONFIG_INVALID
    assert refusal("generation_config.json", b'{"custom_generate": "someone/code"}') is ErrorCode.CODE_REFUSED


def test_a_chat_template_is_text_of_bounded_size() -> None:
    arrive("chat_template.jinja", "{% for message in messages %}{{ message['content'] }} ü{% endfor %}".encode(), 7)
    assert refusal("chat_template.jinja", b"{{ \xff }}") is ErrorCode.FILE_TYPE_REFUSED
    with pytest.raises(SecateurError) as caught:
        arrive("chat_template.jinja", b"x" * (MAX_JSON + 1), MAX_JSON)
    assert caught.value.code is ErrorCode.REQUEST_TOO_LARGE


def archive() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", "x")
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "train.parquet", "README.md"])
def test_pickles_and_archives_are_known_by_content(name: str) -> None:
    for protocol in (2, 3, 4, 5):
        assert refusal(name, pickle.dumps({"weight": [1.0] * 100}, protocol)) is ErrorCode.FILE_TYPE_REFUSED
    assert refusal(name, archive()) is ErrorCode.FILE_TYPE_REFUSED
    assert refusal(name, b"cos\nsystem\n(S'true'\ntR.") is ErrorCode.FILE_TYPE_REFUSED


def test_a_pickle_is_refused_at_its_first_bytes() -> None:
    incoming = IncomingFile("model.safetensors", 10**9, MAX_JSON)
    with pytest.raises(SecateurError):
        incoming.feed(pickle.dumps({"weight": [1.0] * 100}))


def test_weights_are_refused_when_their_header_has_come() -> None:
    incoming = IncomingFile("model.safetensors", 10**9, MAX_JSON)
    with pytest.raises(SecateurError) as caught:
        incoming.feed(safetensors_bytes("{}", bytes(100)))
    assert caught.value.code is ErrorCode.SAFETENSORS_INVALID


def test_a_safetensors_header_of_640_bytes_is_no_pickle() -> None:
    text = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).ljust(640)
    arrive("model.safetensors", safetensors_bytes(text, bytes(4)), 64)


def test_each_kind_has_its_code() -> None:
    assert refusal("model.safetensors", safetensors_bytes("{}", b"more")) is ErrorCode.SAFETENSORS_INVALID
    assert refusal("model.safetensors", b"") is ErrorCode.SAFETENSORS_INVALID
    assert refusal("config.json", b"{") is ErrorCode.CONFIG_INVALID
    assert refusal("config.json", b"[]") is ErrorCode.CONFIG_INVALID
    assert refusal("config.json", b'{"a": NaN}') is ErrorCode.CONFIG_INVALID
    assert refusal("config.json", b'{"a": 1, "a": 2}') is ErrorCode.CONFIG_INVALID
    assert refusal("config.json", b'{"a":' * 40 + b"1" + b"}" * 40) is ErrorCode.CONFIG_INVALID
    own = ast_config(auto_map={"a": "b"}, architectures=["OwnModel"])
    assert refusal("config.json", json.dumps(own).encode()) is ErrorCode.CODE_REFUSED
    assert refusal("preprocessor_config.json", b'{"auto_map": {"a": "b"}}') is ErrorCode.CODE_REFUSED
    assert refusal("train.parquet", b"PAR1 and more") is ErrorCode.FILE_TYPE_REFUSED
    assert refusal("README.md", b"text\0") is ErrorCode.FILE_TYPE_REFUSED
    assert refusal("config.json", b"{" + b" " * MAX_JSON + b"}") is ErrorCode.REQUEST_TOO_LARGE


def test_an_index_may_name_a_tensor_like_a_refused_key() -> None:
    arrive("model.safetensors.index.json", b'{"weight_map": {"use_kernels": "model-00001-of-00001.safetensors"}}', 9)


def test_vocabularies_may_be_large_and_hold_any_word() -> None:
    words = {"[PAD]": 0, "auto_map": 1, "custom_code": 2} | {f"word-{number}": number for number in range(3, 10_000)}
    arrive("vocab.json", json.dumps(words).encode(), 1000)
    arrive("tokenizer.json", json.dumps({"model": {"type": "WordPiece", "vocab": words}}).encode(), 1000)
    arrive("vocab.txt", "\n".join(words).encode(), 1000)
    arrive("merges.txt", "#version: 0.2\nĠ t\nh e\n".encode(), 1)


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("vocab.txt", b"[PAD]\n\xff\xfe", ErrorCode.FILE_TYPE_REFUSED),
        ("merges.txt", b"a b\0", ErrorCode.FILE_TYPE_REFUSED),
        ("vocab.json", b'{"a": "one"}', ErrorCode.CONFIG_INVALID),
        ("vocab.json", b'{"a": -1}', ErrorCode.CONFIG_INVALID),
        ("vocab.json", b'{"en": {"a": 1}, "de": {"a": {"b": 1}}}', ErrorCode.CONFIG_INVALID),
        ("tokenizer.json", b'{"auto_map": {"a": "b"}, "model": {"vocab": {}}}', ErrorCode.CODE_REFUSED),
        ("tokenizer.json", b'{"model": {"vocab": {}, "auto_map": {"a": "b"}}}', ErrorCode.CODE_REFUSED),
        ("tokenizer_config.json", b'{"auto_map": {"AutoTokenizer": ["own.Own", null]}}', ErrorCode.CODE_REFUSED),
        ("processor_config.json", b'{"feature_extractor": {"auto_map": {"a": "b"}}}', ErrorCode.CODE_REFUSED),
    ],
)
def test_files_of_a_tokenizer_are_judged(name: str, data: bytes, code: ErrorCode) -> None:
    assert refusal(name, data) is code


def test_a_vocabulary_has_a_bound() -> None:
    with pytest.raises(SecateurError) as caught:
        IncomingFile("vocab.txt", 2**30, MAX_JSON)
    assert caught.value.code is ErrorCode.REQUEST_TOO_LARGE
