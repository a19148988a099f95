"""The two small files that travel with a cut checkpoint beside `pruned_layers.py`, written for its class of transformers.

The engine runs these very texts, so what was measured is what travels.
"""

import linecache
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel

LAYERS_FILE = "pruned_layers.py"
CONFIGURATION = '''"""Configuration of {stock} with structurally pruned blocks (made by Secateur)."""

from typing import Any

from transformers import {config}


class Pruned{config}({config}):
    """A {config} that also says how wide every block is.

    Args:
        pruned_attention: one entry an attention: `module`, `kind`, `q`, `k`, `v`, `o` (paths in the module tree), `qk` and `vo`
            (one width a head that was kept), `heads` (their numbers in the original), `pairs` (query-key pairs of one input).
        pruned_feed_forward: one entry a feed-forward block: `first`, `second` (paths), `neurons`.
    """

    model_type = "pruned-{model_type}"

    pruned_attention: list[dict[str, Any]] | None = None
    pruned_feed_forward: list[dict[str, Any]] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        # Files say "pruned-{model_type}", so that nobody takes them for a {model_type}. In memory the type is {model_type}'s:
        # generation and pipelines ask for it, and treat the model as what it is.
        self.model_type = "{model_type}"
'''
MODELING = '''"""{stock} with structurally pruned blocks (made by Secateur). Needs transformers >= 5.10."""

from transformers import {stock}

from .configuration_pruned import Pruned{config}
from .pruned_layers import narrow


class Pruned{stock}({stock}):
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

    def files(self) -> dict[str, str]:
        """Everything that travels, by file name."""
        layers = Path(__file__).with_name(LAYERS_FILE).read_text()
        return {
            "configuration_pruned.py": self.configuration,
            "modeling_pruned.py": self.modeling,
            LAYERS_FILE: layers,
        }


@lru_cache
def pruned_classes(name: str) -> PrunedClasses:
    """The classes for one of transformers' by its name, which a family names: never a string from a file."""
    stock: type[PreTrainedModel] = getattr(transformers, name)
    config: Any = stock.config_class
    words = {"stock": name, "config": config.__name__, "model_type": config.model_type}
    configuration, modeling = CONFIGURATION.format(**words), MODELING.format(**words)
    # A package of its own for each class: relative imports work as they do in the folder of a checkpoint.
    package = f"{__package__}.of_{name.lower()}"
    _module(package, "", path=[])
    sys.modules[f"{package}.pruned_layers"] = sys.modules[f"{__package__}.pruned_layers"]
    configured = _module(f"{package}.configuration_pruned", configuration)
    modeled = _module(f"{package}.modeling_pruned", modeling)
    return PrunedClasses(
        stock=stock,
        pruned=getattr(modeled, f"Pruned{name}"),
        config=getattr(configured, f"Pruned{config.__name__}"),
        configuration=configuration,
        modeling=modeling,
    )


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
