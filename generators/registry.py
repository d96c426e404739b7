"""Generators by name: ours, and those of other packages through ``spinodal.generators``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from importlib.metadata import entry_points
from typing import Any

import torch

from generators.baseline import LibraryDraw, Mutation
from generators.flow import JointFlow
from generators.training.flow_matching import FlowSettings
from generators.vae import VAESettings
from loop.errors import InvalidCampaignError, unknown_name
from loop.library import Library
from loop.protocols import Generator
from loop.space import DesignSpace
from loop.targets import Targets

GROUP = "spinodal.generators"

PRESETS: Mapping[str, FlowSettings] = {
    # Seconds, for tests: everything is there and nothing is good.
    "tiny": FlowSettings(
        width=32,
        depth=2,
        heads=2,
        first_steps=30,
        retrain_steps=10,
        batch=32,
        sample_steps=4,
        head_width=32,
        head_depth=2,
        head_batch=64,
        head_first_steps=40,
        head_retrain_steps=15,
        head_sample_steps=6,
        vae=VAESettings(latent_channels=4, width=8, steps=20, batch=16, images=256),
    ),
    # Minutes on two cores.
    "cpu": FlowSettings(),
    # Larger network and longer training where one GPU is at hand.
    "gpu": FlowSettings(
        width=384,
        depth=10,
        heads=6,
        first_steps=20000,
        retrain_steps=4000,
        batch=512,
        sample_steps=25,
        image_rows=65536,
        head_width=512,
        head_depth=6,
        head_batch=2048,
        head_first_steps=20000,
        head_retrain_steps=4000,
        head_sample_steps=40,
        vae=VAESettings(width=48, steps=6000, batch=256, images=65536),
    ),
}

Factory = Callable[..., Generator]


def _flow_settings(preset: str, settings: Mapping[str, Any]) -> FlowSettings:
    base = PRESETS[preset]
    given = dict(settings)
    inner = given.pop("vae", {})
    for kind, table, keys in (
        ("generator.settings", given, [f.name for f in fields(FlowSettings)]),
        ("generator.settings.vae", inner, [f.name for f in fields(VAESettings)]),
    ):
        for key in table:
            if key not in keys:
                raise InvalidCampaignError(f"{kind}: " + unknown_name("key", key, keys))
    return replace(base, **given, vae=replace(base.vae, **inner))


def _joint_flow(
    *,
    space: DesignSpace,
    library: Library,
    targets: Targets,
    properties: Sequence[str],
    settings: Mapping[str, Any],
    preset: str,
    device: str,
) -> Generator:
    return JointFlow(space, library, targets, properties, _flow_settings(preset, settings), device)


def _library(*, library: Library, **_: Any) -> Generator:
    return LibraryDraw(library)


def _mutation(*, space: DesignSpace, library: Library, targets: Targets, **_: Any) -> Generator:
    return Mutation(space, library, targets)


BUILT_IN: Mapping[str, Factory] = {
    "joint-flow": _joint_flow,
    "library": _library,
    "mutation": _mutation,
}


def available() -> list[str]:
    """Names of all generators that can be created."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def create(
    name: str,
    *,
    space: DesignSpace,
    library: Library,
    targets: Targets,
    properties: Sequence[str],
    settings: Mapping[str, Any] | None = None,
    preset: str = "cpu",
    device: str = "cpu",
) -> Generator:
    """An untrained generator.

    Raises InvalidCampaignError for an unknown name or setting and for a device that is not there.
    """
    check_device(device)
    factory = BUILT_IN.get(name)
    if factory is None:
        for point in entry_points(group=GROUP):
            if point.name == name:
                factory = point.load()
                break
        else:
            raise InvalidCampaignError(unknown_name("generator", name, available()))
    return factory(
        space=space,
        library=library,
        targets=targets,
        properties=properties,
        settings=settings or {},
        preset=preset,
        device=device,
    )


def check_device(device: str) -> None:
    """Raise InvalidCampaignError when torch cannot use ``device`` here: no silent fall-back."""
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise InvalidCampaignError(
            f"compute.device is {device!r}; expected cpu, cuda or cuda:N"
        ) from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise InvalidCampaignError(
            f"compute.device is {device!r} but torch {torch.__version__} finds no CUDA device; "
            "set it to cpu or install a CUDA build of torch"
        )
