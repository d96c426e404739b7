"""Simulators by name: the built-in ones and those that other packages bring.

A package adds a simulator with an entry point in the group ``spinodal.simulators``:

    [project.entry-points."spinodal.simulators"]
    my-simulator = "my_package.my_module:create"

where ``create(*, space, settings, device)`` returns a Simulator and raises InvalidCampaignError
for settings it cannot use. One that takes values from other simulators (``wiring``) has a keyword
``wired`` besides: the names of the inputs that it will be given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from loop.errors import InvalidCampaignError, SpinodalError, unknown_name
from loop.protocols import Simulator
from loop.space import DesignSpace
from simulators.isolated import Isolated
from simulators.wiring import Wires, connect

GROUP = "spinodal.simulators"
BUILT_IN: Mapping[str, str] = {
    "atomistic": "simulators.atomistic:create",
    "composite-chain": "simulators.chain:create",
    "correlation": "simulators.correlation_simulator:create",
    "descriptors": "simulators.alloy_descriptors:create",
    "heat-treatment": "simulators.heat_treatment:create",
    "hull": "simulators.energy_above_hull:create",
    "measured": "simulators.measured:create",
    "phase-equilibrium": "simulators.phase_equilibrium:create",
    "precipitation-strength": "simulators.strength:create",
}

Factory = Callable[..., Simulator]


def _third_party() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def available() -> list[str]:
    """Names that ``create`` knows, sorted."""
    return sorted({*BUILT_IN, *_third_party()})


def create(
    name: str,
    *,
    space: DesignSpace,
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
    timeout_s: float | None = None,
    wired: Collection[str] = (),
    folder: Path | None = None,
) -> Simulator:
    """The simulator ``name`` for a design space.

    ``settings``: its table in the campaign file. ``device``: a torch device. ``timeout_s``: let
    it run in a process of its own, with so many seconds a candidate (``isolated``). ``wired``:
    inputs that other simulators will give it (``wiring``). ``folder``: where relative paths in
    the settings start, for a factory that has a keyword of that name.
    Raises InvalidCampaignError for an unknown name (with the nearest known one), a plug-in that
    cannot be loaded, or settings that cannot be used.
    """
    more: dict[str, Any] = {"wired": tuple(wired)} if wired else {}
    if more and "wired" not in inspect.signature(_factory(name)).parameters:
        raise InvalidCampaignError(
            f"simulators.wiring.{name}: {name} takes no inputs; take its wires out"
        )
    if folder is not None and "folder" in inspect.signature(_factory(name)).parameters:
        more["folder"] = folder
    if timeout_s is not None:
        return Isolated(
            name,
            _location(name),
            space=space,
            settings=settings,
            device=device,
            timeout_s=timeout_s,
            **more,
        )
    return _factory(name)(space=space, settings=dict(settings or {}), device=device, **more)


def create_all(
    names: Sequence[str],
    *,
    space: DesignSpace,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    device: str = "cpu",
    timeout_s: Mapping[str, float] | None = None,
    wires: Wires | None = None,
    folder: Path | None = None,
) -> list[Simulator]:
    """The simulators of a campaign in its order; those wired to each other are joined into one.

    ``settings``, ``timeout_s``, ``wires``: by the simulator's name. ``folder``: of the campaign,
    where relative paths start. Raises as ``create`` and
    ``wiring.Wired`` do.
    """
    wires = wires or {}
    made = [
        create(
            name,
            space=space,
            settings=(settings or {}).get(name, {}),
            device=device,
            timeout_s=(timeout_s or {}).get(name),
            wired=tuple(wires.get(name, ())),
            folder=folder,
        )
        for name in names
    ]
    return connect(made, wires)


def _location(name: str) -> str:
    """Where the factory of ``name`` is, as "module:function"."""
    if name in BUILT_IN:
        return BUILT_IN[name]
    found = _third_party()
    if name not in found:
        raise InvalidCampaignError(unknown_name("simulator", name, available()))
    return found[name].value


def _factory(name: str) -> Factory:
    if name in BUILT_IN:
        module, attribute = BUILT_IN[name].split(":")
        factory: Factory = getattr(import_module(module), attribute)
        return factory
    found = _third_party()
    if name not in found:
        raise InvalidCampaignError(unknown_name("simulator", name, available()))
    try:
        loaded: Factory = found[name].load()
    except SpinodalError:
        raise
    except Exception as error:  # another package's import can fail in any way
        raise InvalidCampaignError(
            f"simulator {name!r} ({found[name].value}) cannot be loaded: {error}; "
            "reinstall the package that brings it or take it out of simulators.use"
        ) from error
    return loaded
