"""Larger models of which a part is worked on: what the families of their parts say, under the whole model's names and keys."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from checkpoints.families.base import AttentionSite, Config, Family, FeedForwardSite, Layout, UnusableConfigError
from checkpoints.families.tensor_shapes import Shapes


def inner_config(config: Config, key: str) -> Mapping[str, Any]:
    """The configuration that stands under a key; empty where there is none, which transformers fills with its defaults."""
    found = config.get(key)
    return found if isinstance(found, Mapping) else {}


@contextmanager
def within(key: str) -> Iterator[None]:
    """What is wrong with the configuration under a key names the key as well."""
    try:
        yield
    except UnusableConfigError as error:
        raise UnusableConfigError(f"{key}.{error.key}" if error.key else key, error.reason) from None


def tensors_of(config: Config, key: str, family: Family) -> Shapes:
    """All tensors of the family's first class with the configuration under a key, by their names there."""
    architecture = next(iter(family.architectures.values()))
    with within(key):
        return dict(family.tensors(inner_config(config, key), architecture, 0))


def layout_of(config: Config, key: str, family: Family) -> Layout:
    """Likewise its layout."""
    architecture = next(iter(family.architectures.values()))
    with within(key):
        return family.layout(inner_config(config, key), architecture)


def placed(layout: Layout, at: str) -> Layout:
    """The same blocks where the whole model has them: `at` is the path of the module whose layout it is."""

    def path(name: str) -> str:
        return f"{at}.{name}"

    return replace(
        layout,
        attention=tuple(_attention(site, path) for site in layout.attention),
        feed_forward=tuple(_feed_forward(site, path) for site in layout.feed_forward),
        stacks=tuple(tuple(map(path, stack)) for stack in layout.stacks),
    )


def _attention(site: AttentionSite, path: Callable[[str], str]) -> AttentionSite:
    return replace(
        site,
        module=path(site.module),
        q=path(site.q),
        k=path(site.k),
        v=path(site.v),
        o=path(site.o),
        stream=None if site.stream is None else path(site.stream),
        joined=None if site.joined is None else path(site.joined),
        norms={side: path(name) for side, name in site.norms.items()},
    )


def _feed_forward(site: FeedForwardSite, path: Callable[[str], str]) -> FeedForwardSite:
    return replace(
        site,
        first=path(site.first),
        second=path(site.second),
        stream=None if site.stream is None else path(site.stream),
        up=None if site.up is None else path(site.up),
        joined=None if site.joined is None else path(site.joined),
    )
