"""The transformers class of a checkpoint: what its config says or, if it says nothing, what the names of its weights imply."""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from api_schemas.enums import Head, Modality
from api_schemas.errors import ErrorCode, SecateurError
from checkpoints.families import ALL_FAMILIES, FAMILIES, Architecture, Family, family_of

PARTS = {
    "clap": "Either encoder of a CLAP model can be pruned on its own, and its embeddings stay comparable with the other "
    "encoder's. Save it separately: `ClapAudioModelWithProjection.from_pretrained(folder).save_pretrained(other)` "
    "and `AutoFeatureExtractor.from_pretrained(folder).save_pretrained(other)`, or "
    "`ClapTextModelWithProjection.from_pretrained(folder).save_pretrained(texts)` and "
    "`AutoTokenizer.from_pretrained(folder).save_pretrained(texts)`.",
    "clip": "The image encoder of a CLIP model can be pruned, and its embeddings stay comparable with those of texts. Save "
    "it separately: `CLIPVisionModelWithProjection.from_pretrained(folder).save_pretrained(other)` and "
    "`AutoImageProcessor.from_pretrained(folder).save_pretrained(other)`. CLIP's image classifier, with two "
    "configurations in one, cannot be pruned.",
    "clip_text_model": "Only the image encoder of a CLIP model can be pruned (CLIPVisionModelWithProjection).",
    "siglip": "The image encoder of a SigLIP model can be pruned. Save it separately: "
    "`SiglipVisionModel.from_pretrained(folder).save_pretrained(other)` and "
    "`AutoImageProcessor.from_pretrained(folder).save_pretrained(other)`. SigLIP's image classifier, with two "
    "configurations in one, cannot be pruned.",
    "clap_text_model": "CLAP's text encoder can be pruned with its projection, as ClapTextModelWithProjection: save that "
    "from the whole model's folder.",
}
"""What to do instead, where a part of a model is supported."""
WITHOUT_HEAD = (Head.EMBEDDING, Head.HIDDEN_STATES)
WORDS = ("MaskedLM", "PreTraining", "LMHead")
"""In names of classes of text that say what stands for masked words, beside something else or in another way."""
LABELS = ("Classif", "Emotion")
"""In names of classes that give labels to the whole, those that tutorials define among them."""
GENERATES = "ForConditionalGeneration"
CONTINUES = ("ForCausalLM", "LMHeadModel")
"""How names of classes end that say what comes next in a text."""
NUMBERED = re.compile(r"LABEL_\d+")
WHOLE_LIST = "docs/families.md lists every class that can be pruned; GET /v1/limits lists the families."


def said_by(config: Mapping[str, Any]) -> tuple[Family, str] | None:
    """Family and class as `model_type` and `architectures` have them; None where they say nothing, or nothing that is known."""
    model_type, architectures = config.get("model_type"), config.get("architectures")
    name = architectures[0] if isinstance(architectures, list) and len(architectures) == 1 else None
    if not isinstance(name, str):
        return None
    if model_type is None:
        found = (family for family in ALL_FAMILIES if name in family.architectures)
        return next(((family, name) for family in found), None)
    family = family_of(model_type) if isinstance(model_type, str) else None
    return (family, name) if family is not None and name in family.architectures else None


def is_silent(config: Mapping[str, Any]) -> bool:
    """Whether one of the two is left out, so that the weights are asked."""
    return config.get("model_type") is None or config.get("architectures") in (None, [])


def without_code_map(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The config without `auto_map`, where a class of transformers is named: that one needs no other code, and none is run."""
    if said_by(config) is None and not is_silent(config):
        return config
    return {key: value for key, value in config.items() if key != "auto_map"}


def of_sentences(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a folder of sentence-transformers, whose library loads the plain encoder whatever class with masked words is
    named: that encoder's.
    """
    said = said_by(config)
    if said is not None and said[0].modality is Modality.TEXT and said[0].architectures[said[1]].head is Head.MASKED_LM:
        plain = (name for name, each in said[0].architectures.items() if each.head is Head.EMBEDDING)
        return {**config, "architectures": [next(plain)]}
    return dict(config)


def candidates(config: Mapping[str, Any]) -> list[tuple[Family, str]]:
    """The classes that a config which is silent leaves possible."""
    model_type, architectures = config.get("model_type"), config.get("architectures")
    if architectures not in (None, []):
        return []
    every = tuple(family for family in FAMILIES if not family.twin)
    families = every if model_type is None else tuple(filter(None, [family_of(str(model_type))]))
    return [(family, name) for family in families for name in family.architectures]


def unsupported(config: Mapping[str, Any]) -> SecateurError:
    """ARCHITECTURE_UNSUPPORTED, with the nearest class that can be pruned and how to get there."""
    model_type, architectures = config.get("model_type"), config.get("architectures")
    family = family_of(model_type) if isinstance(model_type, str) else None
    said = f"config.json has architectures {str(architectures)[:200]} and model_type {str(model_type)[:100]!r}."
    name = architectures[0] if isinstance(architectures, list) and len(architectures) == 1 else None
    if architectures in (None, []) and (model_type is None or family is not None):
        detail = f"{said} The weight names do not show which class it is: set `architectures`."
    elif isinstance(model_type, str) and model_type in PARTS:
        detail = f"{said} {PARTS[model_type]}".rstrip()
    elif family is not None and family.part is not None and isinstance(name, str):
        (whole,) = family.architectures
        detail = f"{said} {name[:100]} cannot be pruned: save the whole model, a {whole}."
    elif family is not None and isinstance(name, str):
        near = family.ways.get(name) or nearest(name, family.architectures, config)
        detail = f"{said} {name[:100]} cannot be pruned: {way_to(near, family.architectures[near])}"
    elif family is not None:
        detail = f"{said} `architectures` must have exactly one entry, one of {', '.join(family.architectures)}."
    else:
        detail = f"{said} {_near_family(name, model_type, config)}"
    return SecateurError(ErrorCode.ARCHITECTURE_UNSUPPORTED, f"{detail} {WHOLE_LIST}")


def nearest(name: str, architectures: Collection[str], config: Mapping[str, Any]) -> str:
    """Of a family's classes the one that is most like `name`: by its head and, where that says nothing, the plain encoder.

    A class that tutorials define may be called anything; that it gives labels, config.json says by naming them.
    """
    names = list(architectures)
    of_words = [each for each in names if each.endswith("ForMaskedLM")]
    if of_words and any(word in name for word in WORDS):
        return of_words[0]
    plain = [each for each in names if each.endswith("Model")]
    of_labels = [each for each in names if "Classification" in each]
    gives_labels = any(word in name for word in LABELS) or _names_labels(config)
    if gives_labels and of_labels and config.get("problem_type") != "regression":
        return get_close_matches(name, of_labels, 1, 0.0)[0]
    return get_close_matches(name, plain or names, 1, 0.0)[0]


def _names_labels(config: Mapping[str, Any]) -> bool:
    """Whether it calls its classes otherwise than transformers does by itself."""
    names = config.get("id2label")
    return isinstance(names, dict) and not all(NUMBERED.fullmatch(str(name)) for name in names.values())


def way_to(near: str, architecture: Architecture) -> str:
    """How a folder of another class becomes one of the class `near`, in words that begin a sentence's second half."""
    if architecture.head in WITHOUT_HEAD:
        return f"save it as {near} (`{near}.from_pretrained(folder).save_pretrained(other)`), which drops its head."
    modules = " and ".join(f"`{module}`" for module in architecture.classifiers)
    head = f"Whatever its head ({modules})" if modules else "What it"
    return (
        f"the nearest supported class is {near}. Load it with `{near}.from_pretrained(folder, "
        f"ignore_mismatched_sizes=True)`. {head} does not find in the weights by name and shape is initialized at "
        "random: train it, then call `save_pretrained`."
    )


def _near_family(name: Any, model_type: Any, config: Mapping[str, Any]) -> str:
    # Most that generate text read text, and the one here listens.
    named = {each: family for family in FAMILIES for each in family.architectures}
    every = [each for each in named if not each.endswith(GENERATES)]
    close = get_close_matches(name, every, 1, 0.75) if isinstance(name, str) else []
    kin = {each: family for family in FAMILIES for each in family.model_types if str(model_type).startswith(each)}
    if not close and kin and isinstance(name, str):
        # Of the same line: a vit_mae, a vit_msn.
        close = [nearest(name, kin[max(kin, key=len)].architectures, config)]
    if isinstance(name, str) and name.endswith(CONTINUES):
        able = [
            each for family in FAMILIES for each, made in family.architectures.items() if made.head is Head.CAUSAL_LM
        ]
        return f"Of the language models that continue texts, {', '.join(able[:-1])} and {able[-1]} can be pruned."
    if close:
        return (
            f"The nearest supported class by name is {close[0]} (model_type {named[close[0]].model_types[0]!r}), but "
            "its weights differ: find or train a checkpoint of that class."
        )
    # A part is there in the whole.
    inside = [family.inner[family.part.config_key] for family in ALL_FAMILIES if family.part is not None]
    listed = (family for family in ALL_FAMILIES if family not in inside)
    supported = ", ".join(model_type for family in listed for model_type in family.model_types)
    return f"Supported model types: {supported}."
