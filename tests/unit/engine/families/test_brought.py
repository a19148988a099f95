"""Folders as people bring them: what the service takes of config, index and settings, the engine reads as well."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from api_schemas.enums import Head, Modality
from api_schemas.errors import SecateurError
from benchmarks.families import reference
from benchmarks.families.tiny_models import MODELS
from checkpoints.config.checkpoint_config import allowed_fields, read_config
from checkpoints.describe import describe_folder, sentences_of
from tests.support.checkpoints import preprocessors
from worker.engine.checkpoint.load import load_original, load_stock
from worker.engine.checkpoint.save import save_checkpoint
from worker.engine.data.featurizers import featurizer_for
from worker.engine.data.labels import targets_of
from worker.engine.data.settings import model_type, read_preprocessor

INDEX = "model.safetensors.index.json"
UNREAD = {
    "sentence_transformers": {"version": "2"},
    "num_class": 2,
    "xla_device": True,
    "auto_map": {"AutoModel": "own.Own"},
}


def tiny_of(name):
    return next(tiny for tiny in MODELS if tiny.name == name)


def changed(path, *absent, **changes):
    kept = {key: value for key, value in json.loads(path.read_text()).items() if key not in absent}
    path.write_text(json.dumps(kept | changes))


def answers_as(loaded, stock, inputs):
    with torch.inference_mode():
        reference.assert_near(reference.answer(loaded.model, inputs), reference.answer(stock, inputs))


@pytest.mark.parametrize("tiny", MODELS, ids=lambda tiny: tiny.id)
def test_every_tensor_of_a_class_is_known(tiny):
    stock = tiny.stock()
    config = json.loads(stock.config.to_json_string(use_diff=False))
    family, architecture = tiny.model_spec.family, tiny.model_spec.family.architectures[tiny.name]
    held = {
        name: tuple(tensor.shape)
        for name, tensor in stock.state_dict().items()
        if tensor.is_floating_point() and name not in stock.all_tied_weights_keys
    }
    assert family.tensors(config, architecture, stock.config.num_labels) == held


@pytest.mark.parametrize("metadata", [{}, {"metadata": None}, {"metadata": []}, {"metadata": {"dtype": "os.system"}}])
def test_an_index_need_say_nothing_but_where_tensors_are(metadata, tmp_path):
    tiny = tiny_of("BertForTokenClassification")
    stock = tiny.stock()
    tiny.save(stock, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    places = {name: f"model-0000{1 + at % 2}-of-00002.safetensors" for at, name in enumerate(sorted(tensors))}
    for place in set(places.values()):
        save_file(
            {name: tensors[name] for name in tensors if places[name] == place}, tmp_path / place, {"format": "pt"}
        )
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": places, **metadata}))
    changed(tmp_path / "config.json", "dtype")
    answers_as(load_original(tmp_path), stock, tiny.inputs(2))
    assert json.loads((tmp_path / INDEX).read_text()) == {"weight_map": places, **metadata}


@pytest.mark.parametrize("name", ["BertModel", "ViTForImageClassification", "Wav2Vec2ForCTC"])
def test_what_no_class_reads_of_a_config_is_in_no_result(name, tmp_path):
    tiny = tiny_of(name)
    stock = tiny.stock()
    changed(tiny.save(stock, tmp_path) / "config.json", **UNREAD, dtype="auto", name_or_path="/root/x", pad=["a"])
    loaded = load_original(tmp_path)
    answers_as(loaded, stock, tiny.inputs(2))
    save_checkpoint(tmp_path / "step", loaded, tmp_path)
    written = json.loads((tmp_path / "step" / "config.json").read_text())
    assert not written.keys() & UNREAD.keys()
    assert (written["dtype"], written["architectures"]) == ("float32", [name])


@pytest.mark.parametrize(
    "changes",
    [
        {
            "use_cache": None,
            "is_decoder": None,
            "num_labels": None,
            "tie_word_embeddings": None,
            "add_cross_attention": None,
        },
        {"layer_norm_eps": 1, "initializer_range": 1},
        {"return_dict": False, "quantization_config": False},
    ],
    ids=["nulls", "whole numbers", "answers as tuples"],
)
def test_what_the_service_takes_of_a_config_the_engine_can_read(changes, tmp_path):
    """transformers' classes are strict about types that its older versions wrote otherwise."""
    tiny = tiny_of("BertForTokenClassification")
    stock = tiny.stock(**{key: float(value) for key, value in changes.items() if type(value) is int})
    changed(tiny.save(stock, tmp_path) / "config.json", **changes)
    assert describe_folder(tmp_path).name == "BertForTokenClassification"
    loaded = load_original(tmp_path)
    answers_as(loaded, stock, tiny.inputs(2))
    answers_as(loaded, load_stock(tmp_path, loaded.model_spec), tiny.inputs(2))
    save_checkpoint(tmp_path / "step", loaded, tmp_path)
    answers_as(loaded, type(stock).from_pretrained(tmp_path / "step"), tiny.inputs(2))


FIRST = {tiny.model_spec.family.name: tiny for tiny in reversed(MODELS)}


@pytest.mark.parametrize("tiny", FIRST.values(), ids=FIRST.keys())
def test_null_is_a_key_that_is_not_there(tiny, tmp_path):
    """Of every key that may be null, `chunk_size_feed_forward` and `encoder_stride` among them."""
    stock, family = tiny.stock(), tiny.model_spec.family
    path = tiny.save(stock, tmp_path) / "config.json"
    said, usual = json.loads(path.read_text()), type(stock.config)().to_dict()
    own = {"architectures", "model_type"} | {key for key, value in said.items() if value != usual.get(key)}

    def may_be_null(key):
        try:
            return bool(read_config({**said, key: None}))
        except SecateurError:
            return False

    # Of a conformer's positions null says that there are none, to transformers' classes as well.
    own.add("position_embeddings_type")
    nulls = [key for key in sorted(allowed_fields(family) - own) if may_be_null(key)]
    assert "chunk_size_feed_forward" in nulls
    changed(path, **dict.fromkeys(nulls))
    loaded = load_original(tmp_path)
    answers_as(loaded, stock, tiny.inputs(2))
    answers_as(loaded, load_stock(tmp_path, loaded.model_spec), tiny.inputs(2))


@pytest.mark.parametrize(
    ("name", "padding"), [("RobertaModel", -1), ("WavLMForCTC", -1), ("Wav2Vec2ForCTC", 2**20)], ids=str
)
def test_a_padding_token_that_is_counted_with_is_one(name, padding, tmp_path):
    tiny = tiny_of(name)
    changed(tiny.save(tiny.stock(), tmp_path) / "config.json", pad_token_id=padding)
    with pytest.raises(SecateurError, match="`pad_token_id`"):
        describe_folder(tmp_path)


@pytest.mark.parametrize("name", ["BertModel", "WavLMModel"])
@pytest.mark.parametrize("said", ["flash_attention_2", "sdpa", "eager"])
def test_a_result_asks_for_no_attention_that_a_machine_may_lack(name, said, tmp_path):
    tiny = tiny_of(name)
    stock = tiny.stock()
    changed(tiny.save(stock, tmp_path) / "config.json", attn_implementation=said)
    loaded = load_original(tmp_path)
    save_checkpoint(tmp_path / "step", loaded, tmp_path)
    answers_as(loaded, type(stock).from_pretrained(tmp_path / "step"), tiny.inputs(2))
    kept = json.loads((tmp_path / "step" / "config.json").read_text()).get("attn_implementation")
    assert kept == ("eager" if said == "eager" else None)


@pytest.mark.parametrize("name", ["BertForSequenceClassification", "WavLMForCTC", "WhisperForConditionalGeneration"])
def test_a_config_that_names_no_class_is_the_weights(name, tmp_path):
    tiny = tiny_of(name)
    stock = tiny.stock()
    changed(tiny.save(stock, tmp_path) / "config.json", "model_type", "architectures")
    assert describe_folder(tmp_path).name == name
    loaded = load_original(tmp_path)
    answers_as(loaded, stock, tiny.inputs(2))
    assert model_type(tmp_path) == stock.config.model_type
    save_checkpoint(tmp_path / "step", loaded, tmp_path)
    written = json.loads((tmp_path / "step" / "config.json").read_text())
    assert (written["model_type"], written["architectures"]) == (stock.config.model_type, [name])


def test_settings_that_name_no_class_say_it_in_the_result(tmp_path):
    tiny = tiny_of("Wav2Vec2ForCTC")
    tiny.save(tiny.stock(), tmp_path)
    settings = tmp_path / "preprocessor_config.json"
    settings.write_text(json.dumps({"sampling_rate": 16000, "do_feature_extract": True, "pad": 1}))
    named = {"sampling_rate": 16000, "feature_extractor_type": "Wav2Vec2FeatureExtractor"}
    assert read_preprocessor(tmp_path) == named
    save_checkpoint(tmp_path / "step", load_original(tmp_path), tmp_path)
    assert named.items() <= json.loads((tmp_path / "step" / settings.name).read_text()).items()


@pytest.mark.parametrize("names", [[], "LABEL_0", 2, {"first": "a"}], ids=str)
def test_names_of_labels_are_looked_at_of_a_class_without_labels_too(names, tmp_path):
    tiny = tiny_of("BertModel")
    changed(tiny.save(tiny.stock(), tmp_path) / "config.json", id2label=names)
    with pytest.raises(SecateurError, match="`id2label`"):
        describe_folder(tmp_path)


def test_a_class_that_sentence_transformers_does_not_load_reads_none_of_its_files(tmp_path):
    tiny = tiny_of("ClapTextModelWithProjection")
    tiny.save(tiny.stock(), tmp_path)
    preprocessors.write("clap_text", tmp_path, **{**tiny.config, "vocab_size": 400})
    plain = featurizer_for(tmp_path, Modality.TEXT, Head.EMBEDDING)(["good films"], [""])["input_ids"]
    kind = "sentence_transformers.models.Transformer"
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": kind}]))
    (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 4}))
    again = featurizer_for(tmp_path, Modality.TEXT, Head.EMBEDDING)(["good films"], [""])["input_ids"]
    assert plain[0].tolist() == again[0].tolist()
    assert len(plain[0]) > 4
    assert sentences_of(tiny.model_spec.family, tiny.model_spec.family.architectures[tiny.name], None) is None


def test_an_adapter_beside_the_weights_is_not_loaded(tmp_path):
    tiny = tiny_of("BertModel")
    stock = tiny.stock()
    tiny.save(stock, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x/y"}))
    answers_as(load_original(tmp_path), stock, tiny.inputs(2))


def test_indexes_of_tables_that_a_file_lacks_are_computed(tmp_path):
    """As transformers does: they are no weights, and older tools left them out."""
    tiny = tiny_of("ClapAudioModelWithProjection")
    stock = tiny.stock()
    tiny.save(stock, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    floats = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    assert any("relative_position_index" in name for name in tensors.keys() - floats.keys())
    save_file(floats, tmp_path / "model.safetensors", {"format": "pt"})
    answers_as(load_original(tmp_path), stock, tiny.inputs(2))


def test_classes_that_share_a_name_are_told_apart_by_number(tmp_path):
    """As in ImageNet, where two are called crane."""
    tiny = tiny_of("ViTForImageClassification")
    stock = tiny.stock()
    names = ["crane", *(f"bird {number}" for number in range(stock.config.num_labels - 2)), "crane"]
    tiny.save(stock, tmp_path)
    changed(tmp_path / "config.json", "label2id", id2label=dict(enumerate(names)))
    described = describe_folder(tmp_path)
    assert described.labels == tuple(names)
    last = len(names) - 1
    found = targets_of({"train": [("0",), (str(last),), ("1",)]}, described.labels, False)
    assert found["train"].tolist() == [0, last, 1]
    with pytest.raises(SecateurError, match="the name of the classes"):
        targets_of({"train": [("crane",), ("bird 0",)]}, described.labels, False)
    save_checkpoint(tmp_path / "step", load_original(tmp_path), tmp_path)
    written = json.loads((tmp_path / "step" / "config.json").read_text())
    assert written["id2label"] == {str(number): name for number, name in enumerate(names)}
