"""Generators by name: ours, and those of other packages through ``spinodal.generators``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

import torch

from generators.baseline import LibraryDraw, Mutation
from generators.bayesian import Bayesian, BayesianSettings
from generators.diffusion import JointDiffusion
from generators.flow import JointFlow
from generators.gan import JointGAN, joint_gan_settings
from generators.genetic import Genetic, GeneticSettings
from generators.joint_settings import DIFFUSION_PRESETS, joint_settings
from generators.joint_settings import PRESETS as PRESETS
from generators.joint_vae import JointVAE, joint_vae_settings
from generators.random_field import RandomField
from generators.settings import with_settings
from generators.training.flow_matching import FlowSettings
from loop.errors import InvalidCampaignError, SpinodalError, unknown_name
from loop.library import Library
from loop.protocols import Differentiable, Generator, Simulator
from loop.space import DesignSpace
from loop.targets import Targets

GROUP = "spinodal.generators"

Factory = Callable[..., Generator]


def _guiding(given: dict[str, Any], simulators: Sequence[Simulator]) -> Sequence[Differentiable]:
    """The simulators that guide proposals; takes ``simulator_guidance`` out of the settings."""
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
    return models


def _joint(kind: type[JointFlow], presets: Mapping[str, FlowSettings]) -> Factory:
    def make(
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
        models = _guiding(given, simulators)
        own = joint_settings(presets, preset, given, space)
        return kind(space, library, targets, properties, own, device, models)

    return make


def _one_pass(
    kind: Callable[..., Generator], settings_of: Callable[[str, Mapping[str, Any]], Any]
) -> Factory:
    def make(
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
        own = settings_of(preset, settings)
        return kind(space, library, targets, properties, own, device)

    return make


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


def _genetic(
    *,
    space: DesignSpace,
    library: Library,
    targets: Targets,
    settings: Mapping[str, Any],
    **_: Any,
) -> Generator:
    own = with_settings("generator.settings", GeneticSettings(), settings)
    return Genetic(space, library, targets, own)


def _bayesian(
    *,
    space: DesignSpace,
    library: Library,
    targets: Targets,
    settings: Mapping[str, Any],
    **_: Any,
) -> Generator:
    own = with_settings("generator.settings", BayesianSettings(), settings)
    return Bayesian(space, library, targets, own)


BUILT_IN: Mapping[str, Factory] = {
    "bayesian": _bayesian,
    "diffusion": _joint(JointDiffusion, DIFFUSION_PRESETS),
    "gan": _one_pass(JointGAN, joint_gan_settings),
    "genetic": _genetic,
    "joint-flow": _joint(JointFlow, PRESETS),
    "library": _library,
    "mutation": _mutation,
    "random-field": _random_field,
    "vae": _one_pass(JointVAE, joint_vae_settings),
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
