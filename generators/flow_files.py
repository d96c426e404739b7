"""Checkpoints of the joint flow and diffusion: what is kept, and how one is rebuilt from it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from generators.code_files import labels_of, restore_code, restore_scales, scale_tensors
from generators.dynamics.gaussian import GaussianVelocity
from generators.flow import JointFlow
from generators.noisy_regressor import NoisyRegressor
from generators.sketch import Sketch
from generators.training import checkpoint
from generators.training.card import expect, load_weights, settings_from
from generators.training.denoising import DiffusionSettings, check_diffusion
from generators.vae import VAESettings
from loop.errors import InvalidInputError

# What the weights are of; of files from before there was a choice, what there was.
SIZES = ("width", "depth", "heads", "channels", "head_width", "head_depth")
CHOICES: Mapping[str, Any] = {
    "network": "dit",
    "space": "latent",
    "vector_shift": 1.0,
    "attend": False,
}
OF_DIFFUSION = ("process", "prediction")
OF_REGRESSOR = ("width", "depth", "heads", "channels")
LINEAR = ("mean", "axes", "variance", "rest")


def save_flow(flow: JointFlow, folder: Path) -> tuple[str, Path]:
    """Weights, scales and model card; see ``JointFlow.save``."""
    network = flow.trained_network()
    tensors = {f"flow.{k}": v for k, v in network.state_dict().items()}
    if flow.head is not None:
        tensors |= {f"head.{k}": v for k, v in flow.head.state_dict().items()}
    if flow.sketch is not None:
        tensors |= flow.sketch.tensors()
    if flow.regressor is not None:
        tensors |= flow.regressor.tensors()
    code, linear = flow.code, flow.linear
    assert code is not None
    assert linear is not None
    tensors |= {f"linear.{k}": getattr(linear, k) for k in LINEAR}
    tensors |= scale_tensors(flow)
    card = {
        "generator": flow.name,
        "settings": asdict(flow.settings),
        "properties": flow.properties,
        "phases": flow.space.phases,
        "elements": flow.space.elements,
        "latent_shape": network.latent_shape,
        "lag": None if code.features is None else code.features.lag,
        "data_hash": flow.library.data_hash,
        **labels_of(flow),
    }
    return checkpoint.save(folder, tensors, card, metrics=flow.metrics)


def load_flow(flow: JointFlow, path: Path) -> JointFlow:
    """A trained copy of ``flow``; see ``JointFlow.load``."""
    tensors, card = checkpoint.load(
        path,
        generator=flow.name,
        properties=flow.properties,
        phases=flow.space.phases,
        elements=flow.space.elements,
        **labels_of(flow),
    )
    settings = dict(card["settings"])
    vae_settings = settings_from(VAESettings, settings.pop("vae"), path)
    new = copy.copy(flow)
    # Sizes come from the file, training lengths from the campaign.
    names = (*SIZES, *(k for k in OF_DIFFUSION if hasattr(flow.settings, k)))
    if missing := sorted(set(names) - set(settings)):
        raise InvalidInputError(
            f"checkpoint {path.name} does not say its {', '.join(missing)}; use the version of "
            "spinodal that wrote it, or train anew"
        )
    sizes = {k: settings[k] for k in names} | {k: settings.get(k, v) for k, v in CHOICES.items()}
    kept = settings.get("sketch", {})  # files from before there was one have none
    sketch = replace(flow.settings.sketch, **{k: kept[k] for k in ("width", "depth") if k in kept})
    kept = settings.get("regressor", {})
    own = flow.settings.regressor
    own = replace(own, **{k: kept[k] for k in OF_REGRESSOR if k in kept})
    new.settings = replace(flow.settings, **sizes, vae=vae_settings, sketch=sketch, regressor=own)
    if isinstance(new.settings, DiffusionSettings):
        check_diffusion(new.settings)
    new.code = restore_code(
        tensors,
        flow.space,
        vae_settings,
        lag=card["lag"],
        device=flow.device,
        vector_scale=new.settings.vector_shift,
    )
    expect(card, path, latent_shape=new.code.latent_shape)
    restore_scales(new, tensors)
    new.linear = GaussianVelocity(**{k: tensors[f"linear.{k}"] for k in LINEAR})
    new.network = new.make_network(new.code)
    new.head = new.make_head(new.code)
    for name, network in (("flow.", new.network), ("head.", new.head)):
        if network is not None:
            load_weights(network, tensors, name, path)
            network.eval()
    new.regressor = NoisyRegressor.restore(
        tensors,
        new.linear,
        own,
        latent_shape=new.network.latent_shape,
        vector_sizes=new.network.vector_sizes,
        patch=new.patch,
        path=path,
        device=flow.device,
    )
    new.sketch = Sketch.restore(tensors, sum(flow.widths), sketch, path, flow.device)
    return new
