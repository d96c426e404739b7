"""Generators by name: ours, and those of other packages through ``spinodal.generators``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

import torch

from generators.baseline import LibraryDraw, Mutation
from generators.flow import JointFlow
from generators.joint_vae import JointVAE, joint_vae_settings
from generators.random_field import RandomField
from generators.settings import with_settings
from generators.training.flow_matching import FlowSettings
from generators.vae import VAESettings
from loop.errors import InvalidCampaignError, SpinodalError, unknown_name
from loop.library import Library
from loop.protocols import Differentiable, Generator, Simulator
from loop.space import DesignSpace
from loop.targets import Targets

GROUP = "spinodal.generators"

PRESETS: Mapping[str, FlowSettings] = {
    # Seconds, for tests: everything is there and nothing is good.
    "tiny": FlowSettings(
        width=32,
        depth=2,
        heads=2,
        channels=8,
        first_steps=30,
        retrain_steps=10,
        batch=32,
        plain_rows=256,
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
        channels=128,
        first_steps=20000,
        retrain_steps=4000,
        batch=512,
        learning_rate=6e-4,
        retrain_rate=3e-4,
        sample_steps=25,
        image_rows=65536,
        plain_rows=16384,
        head_width=512,
        head_depth=6,
        head_batch=2048,
        head_rate=1e-3,
        head_first_steps=20000,
        head_retrain_steps=4000,
        head_sample_steps=40,
        vae=VAESettings(
            latent_channels=8, width=48, learning_rate=1e-3, steps=6000, batch=256, images=65536
        ),
    ),
}

Factory = Callable[..., Generator]


def _flow_settings(preset: str, settings: Mapping[str, Any]) -> FlowSettings:
    if preset not in PRESETS:
        raise InvalidCampaignError("generator: " + unknown_name("preset", preset, PRESETS))
    found = with_settings("generator.settings", PRESETS[preset], settings)
    if found.width % found.heads:
        raise InvalidCampaignError(
            f"generator.settings: width is {found.width} and heads is {found.heads}; "
            "expected a width that is a multiple of heads"
        )
    if found.vae.width % 8:
        raise InvalidCampaignError(
            f"generator.settings.vae: width is {found.vae.width}; expected a multiple of 8"
        )
    return found


def _joint_flow(
    *,
    space: DesignSpace,
    library: Library,
    targets: Targets,
    properties: Sequence[str],
    settings: Mapping[str, Any],
    preset: str,
    device: str,
    simulators: Sequence[Simulator],
) -> Generator:
    given = dict(settings)
    guided = given.pop("simulator_guidance", False)
    if not isinstance(guided, bool):
        raise InvalidCampaignError(
            f"generator.settings.simulator_guidance is {guided!r}; expected true or false"
        )
    models = [s for s in simulators if isinstance(s, Differentiable)] if guided else []
    if guided and not models:
        raise InvalidCampaignError(
            "generator.settings.simulator_guidance is on, but none of the simulators has "
            f"derivatives ({', '.join(s.name for s in simulators) or 'there are none'}); turn it "
            "off or use composite-chain"
        )
    flow = _flow_settings(preset, given)
    return JointFlow(space, library, targets, properties, flow, device, models)


def _vae(
    *,
    space: DesignSpace,
    library: Library,
    targets: Targets,
    properties: Sequence[str],
    settings: Mapping[str, Any],
    preset: str,
    device: str,
    **_: Any,
) -> Generator:
    own = joint_vae_settings(preset, settings)
    return JointVAE(space, library, targets, properties, own, device)


def _library(*, library: Library, settings: Mapping[str, Any], **_: Any) -> Generator:
    _no_settings("library", settings)
    return LibraryDraw(library)


def _mutation(
    *,
    space: DesignSpace,
    library: Library,
    targets: Targets,
    settings: Mapping[str, Any],
    **_: Any,
) -> Generator:
    _no_settings("mutation", settings)
    return Mutation(space, library, targets)


def _random_field(
    *,
    space: DesignSpace,
    library: Library,
    targets: Targets,
    settings: Mapping[str, Any],
    **_: Any,
) -> Generator:
    _no_settings("random-field", settings)
    return RandomField(space, library, targets)


def _no_settings(name: str, settings: Mapping[str, Any]) -> None:
    for key in settings:
        raise InvalidCampaignError(
            f"generator.settings has {key!r}, but {name} takes no settings; leave it out"
        )


BUILT_IN: Mapping[str, Factory] = {
    "joint-flow": _joint_flow,
    "library": _library,
    "mutation": _mutation,
    "random-field": _random_field,
    "vae": _vae,
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
    simulators: Sequence[Simulator] = (),
) -> Generator:
    """An untrained generator.

    ``simulators``: those of the campaign, of which a built-in one may use the derivatives.
    Raises InvalidCampaignError for an unknown name or setting, a plug-in that cannot be loaded
    and a device that is not there.
    """
    check_device(device)
    own = BUILT_IN.get(name)
    more = {} if own is None else {"simulators": tuple(simulators)}
    factory = own or _third_party(name)
    return factory(
        space=space,
        library=library,
        targets=targets,
        properties=properties,
        settings=settings or {},
        preset=preset,
        device=device,
        **more,
    )


def _third_party(name: str) -> Factory:
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name not in found:
        raise InvalidCampaignError(unknown_name("generator", name, available()))
    try:
        loaded: Factory = found[name].load()
    except SpinodalError:
        raise
    except Exception as error:  # another package's import can fail in any way
        raise InvalidCampaignError(
            f"generator {name!r} ({found[name].value}) cannot be loaded: {error}; "
            "reinstall the package that brings it or choose another generator.name"
        ) from error
    return loaded


def check_device(device: str) -> None:
    """Raise InvalidCampaignError when torch cannot use ``device`` here: no silent fall-back."""
    try:
        found = torch.device(device)
    except RuntimeError:
        found = None
    if found is None or found.type not in ("cpu", "cuda"):
        raise InvalidCampaignError(f"compute.device is {device!r}; expected cpu, cuda or cuda:N")
    if found.type == "cpu":
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count and (found.index or 0) >= count:
        raise InvalidCampaignError(
            f"compute.device is {device!r} but there are {count} CUDA devices; "
            f"the last one is cuda:{count - 1}"
        )
    if not count:
        raise InvalidCampaignError(
            f"compute.device is {device!r} but torch {torch.__version__} finds no CUDA device; "
            "set it to cpu or install a CUDA build of torch"
        )
