"""Checkpoints of the joint flow: what is kept, and how a generator is rebuilt from it."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from generators.code_files import arrays_of, code_tensors, part_of, restore_code
from generators.dynamics.gaussian import GaussianVelocity
from generators.flow import JointFlow
from generators.training import checkpoint
from generators.training.card import load_weights, settings_from
from generators.vae import VAESettings
from loop.scaling import PropertyScale

SIZES = ("width", "depth", "heads", "channels", "head_width", "head_depth")
LINEAR = ("mean", "axes", "variance", "rest")


def save_flow(flow: JointFlow, folder: Path) -> tuple[str, Path]:
    """Weights, scales and model card; see ``JointFlow.save``."""
    network = flow.trained_network()
    tensors = {f"flow.{k}": v for k, v in network.state_dict().items()}
    if flow.head is not None:
        tensors |= {f"head.{k}": v for k, v in flow.head.state_dict().items()}
    code, linear = flow.code, flow.linear
    assert code is not None
    assert linear is not None
    tensors |= {f"linear.{k}": getattr(linear, k) for k in LINEAR}
    tensors |= code_tensors(code) | arrays_of("property", flow.property_scale)
    tensors["near"] = torch.from_numpy(np.ascontiguousarray(flow.near))
    card = {
        "generator": flow.name,
        "settings": asdict(flow.settings),
        "properties": flow.properties,
        "phases": flow.space.phases,
        "elements": flow.space.elements,
        "latent_shape": network.latent_shape,
        "lag": None if code.features is None else code.features.lag,
        "data_hash": flow.library.data_hash,
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
    )
    settings = dict(card["settings"])
    vae_settings = settings_from(VAESettings, settings.pop("vae"), path)
    new = copy.copy(flow)
    # Sizes come from the file, training lengths from the campaign.
    sizes = {k: settings[k] for k in SIZES}
    new.settings = replace(flow.settings, **sizes, vae=vae_settings)

    new.code = restore_code(tensors, flow.space, vae_settings, lag=card["lag"], device=flow.device)
    new.property_scale = PropertyScale(**part_of(tensors, "property"))
    new.linear = GaussianVelocity(**{k: tensors[f"linear.{k}"] for k in LINEAR})
    new.network = new.make_network(new.code)
    new.head = new.make_head(new.code)
    for name, network in (("flow.", new.network), ("head.", new.head)):
        if network is not None:
            load_weights(network, tensors, name, path)
            network.eval()
    new.near = tensors["near"].numpy()
    return new
