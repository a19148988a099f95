"""The two small files that are shipped with a cut checkpoint beside those in LAYERS_FILES, generated for its transformers class.

The engine runs the same files, so what was measured is what is shipped.
"""

import linecache
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from checkpoints.families import ALL_FAMILIES
from worker.engine.models.part_classes import part_class

LAYERS_FILES = ("pruned_layers.py", "pruned_attention.py", "pruned_heads.py", "pruned_maps.py")
CONFIGURATION = '''"""Configuration of {stock} with structurally pruned blocks (made by Secateur)."""

from typing import Any

from transformers import {config}


class Pruned{config}({config}):
    """A {config} that also says how wide every block is.

    Args:
        pruned_attention: one entry an attention: `module`, `kind`, `q`, `k`, `v`, `o` (paths in the module tree), `qk` and `vo`
            (one width a head that was kept), `heads` (their numbers in the original), `pairs` (query-key pairs of one input);
            where positions rotate q and k `rotary` (by head, the pairs of channels that are left, bits of a hexadecimal number),
            where several heads of queries share one of keys and values `queries` (how many; a head is then one of these with its
            queries), where the stock class has one map for q, k and v `joined` (its path), and where a map makes relative
            positions into keys `positions` (its path). Of the kinds `normed_rotary_cached` and `relative_positions` all channels
            of `qk` are left.
        pruned_feed_forward: one entry a feed-forward block: `first`, `second` (paths), `neurons`; of a gated one `up` (path), and
            where the stock class has one map for both `joined`.
    """

    pruned_attention: list[dict[str, Any]] | None = None
    pruned_feed_forward: list[dict[str, Any]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        # Files say this, which ends {stock} with a sentence where somebody loads it without this code.
        kwargs.pop("_attn_implementation", None)
        super().__post_init__(**kwargs)
        # Older files say "pruned-{model_type}".
        self.model_type = "{model_type}"
'''
MODELING = '''"""{stock} with structurally pruned blocks, and its encoder under other heads (made by Secateur).

Needs transformers >= {needs}.
"""

from transformers import (
    {imports},
)

from .configuration_pruned import Pruned{config}
from .pruned_layers import narrow
'''
MODELING_CLASS = '''

class Pruned{stock}({bases}):
    """{stock} with every attention and feed-forward block as wide as the configuration says."""

    config_class = Pruned{config}

    def __init__(self, config: Pruned{config}) -> None:
        super().__init__(config)
        narrow(self, config.pruned_attention or [], config.pruned_feed_forward or [])
        self.post_init()
'''


@dataclass(frozen=True)
class PrunedClasses:
    """A class of transformers, its pruned counterpart and that one's configuration."""

    stock: type[PreTrainedModel]
    pruned: type[PreTrainedModel]
    config: type[PreTrainedConfig]
    configuration: str
    """Text of configuration_pruned.py."""
    modeling: str
    """Text of modeling_pruned.py."""
    auto_classes: Mapping[str, str]
    """Each of transformers' auto classes that the stock model answers to, and the name of the pruned class that it finds."""
    engine_stock: type[PreTrainedModel]
    """What the engine loads of the stock class: itself, or of a larger model the part that is worked on."""
    engine_pruned: type[PreTrainedModel]
    """Likewise of the pruned class; what is measured and cut."""

    def files(self) -> dict[str, str]:
        """Everything that travels, by file name."""
        layers = {name: Path(__file__).with_name(name).read_text() for name in LAYERS_FILES}
        return {
            "configuration_pruned.py": self.configuration,
            "modeling_pruned.py": self.modeling,
            **layers,
        }


@lru_cache
def pruned_classes(name: str) -> PrunedClasses:
    """The classes for one of transformers' by its name, which a family names: never a string from a file."""
    stock: type[PreTrainedModel] = getattr(transformers, name)
    config: Any = stock.config_class
    words = {"stock": name, "config": config.__name__, "model_type": config.model_type}
    family = next(family for family in ALL_FAMILIES if name in family.architectures)
    words["needs"] = family.needs
    heads = _heads(stock)
    every = sorted({name, *heads.values()})
    # Those that generate say so by name: transformers makes another class, which cannot be pickled, of one that does not.
    bases = {
        each: (each, *(("GenerationMixin",) if getattr(transformers, each).can_generate() else ())) for each in every
    }
    configuration = CONFIGURATION.format(**words)
    modeling = MODELING.format(
        imports=",\n    ".join(sorted({base for of_class in bases.values() for base in of_class})), **words
    )
    for each, of_class in bases.items():
        modeling += MODELING_CLASS.format(stock=each, bases=", ".join(of_class), config=config.__name__)
    # A package of its own for each class: relative imports work as they do in the folder of a checkpoint.
    package = f"{__package__}.of_{name.lower()}"
    _module(package, "", path=[])
    sys.modules[f"{package}.pruned_layers"] = sys.modules[f"{__package__}.pruned_layers"]
    configured = _module(f"{package}.configuration_pruned", configuration)
    modeled = _module(f"{package}.modeling_pruned", modeling)
    pruned, pruned_config = getattr(modeled, f"Pruned{name}"), getattr(configured, f"Pruned{config.__name__}")
    engine = {"": stock, "Pruned": pruned}
    if family.part is not None:
        engine = {
            "": part_class(stock, family.part, config, pruned=False),
            "Pruned": part_class(stock, family.part, pruned_config, pruned=True),
        }
        for before, made in engine.items():
            # Where pickle finds them.
            made.__module__, made.__name__ = modeled.__name__, f"{before}PartOf{name}"
            made.__qualname__ = made.__name__
            setattr(modeled, made.__name__, made)
    return PrunedClasses(
        stock=stock,
        pruned=pruned,
        config=pruned_config,
        configuration=configuration,
        modeling=modeling,
        auto_classes={auto_class: f"Pruned{head}" for auto_class, head in heads.items()},
        engine_stock=engine[""],
        engine_pruned=engine["Pruned"],
    )


def _heads(stock: type[PreTrainedModel]) -> dict[str, str]:
    """By auto class, the class of transformers that it finds for the configuration of `stock`; itself where it is one of them."""
    found = {}
    # Not of dir(), for which transformers compares each of some thousand names with all of them.
    for auto_class in sorted(name for name in set(vars(transformers)["__all__"]) if name.startswith("AutoModel")):
        mapping: Any = getattr(getattr(transformers, auto_class), "_model_mapping", {})
        if stock.config_class in mapping:
            classes = mapping[stock.config_class]
            known = classes if isinstance(classes, tuple | list) else (classes,)
            found[auto_class] = (stock if stock in known else known[0]).__name__
    return found


def _module(name: str, text: str, path: list[str] | None = None) -> ModuleType:
    module = ModuleType(name)
    module.__package__ = name if path is not None else name.rpartition(".")[0]
    if path is not None:
        module.__path__ = path
    # Where transformers and torch look for a module's source, which they judge it by.
    module.__file__ = f"<{name}>"
    linecache.cache[module.__file__] = len(text), None, text.splitlines(keepends=True), module.__file__
    sys.modules[name] = module
    exec(compile(text, module.__file__, "exec"), module.__dict__)  # our own text, with names out of our own tables
    return module
