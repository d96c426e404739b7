"""Sources of made libraries by name: simulators that fill a design space with designs.

A campaign names one in [library]; its designs take the place of micrographs and a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from loop.errors import InvalidCampaignError, unknown_name
from loop.made_designs import DesignSource
from loop.space import DesignSpace

BUILT_IN: Mapping[str, str] = {
    "heat-treatment": "simulators.heat_treated_library:create",
}


def available() -> list[str]:
    """Names that ``create`` knows, sorted."""
    return sorted(BUILT_IN)


def create(
    name: str,
    *,
    space: DesignSpace,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> DesignSource:
    """The source ``name`` for a design space; ``seed``: of all that it draws.

    Raises InvalidCampaignError for an unknown name (with the nearest known one) or settings that
    cannot be used.
    """
    if name not in BUILT_IN:
        raise InvalidCampaignError("library: " + unknown_name("source", name, available()))
    module, attribute = BUILT_IN[name].split(":")
    factory: Callable[..., DesignSource] = getattr(import_module(module), attribute)
    return factory(space=space, settings=dict(settings or {}), seed=seed, device=device)
