"""Generators of the libraries in memory, made as a campaign makes them."""

from __future__ import annotations

from typing import Any

from generators import registry
from tests import libraries


def untrained(name: str, kind: str, **settings: Any) -> Any:
    """The generator ``name`` at preset "tiny" for a space of ``libraries.SPACES``."""
    space = libraries.SPACES[kind]
    return registry.create(
        name,
        space=space,
        library=libraries.library(space),
        targets=libraries.targets(space),
        properties=libraries.properties(space),
        settings=settings,
        preset="tiny",
    )
