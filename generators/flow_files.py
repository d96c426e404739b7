"""Checkpoints of the joint flow: what is kept, and how a generator is rebuilt from it."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from generators.coding import JointCode
from generators.dynamics.gaussian import GaussianVelocity
from generators.flow import JointFlow
from generators.joint import CompositionCode, Standardiser
from generators.training import checkpoint
from generators.vae import ImageVAE, VAESettings
from loop.errors import InvalidInputError
from loop.features import ImageFeatures
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
    if code.features is not None:
        for key in ("mean", "axes"):
            array = np.ascontiguousarray(getattr(code.features, key))
            tensors[f"features.{key}"] = torch.from_numpy(array)
    tensors["near"] = torch.from_numpy(np.ascontiguousarray(flow.near))
    if code.vae is not None:
        tensors |= code.vae.tensors()
    arrays: dict[str, Any] = {"code": code.compositions, "process": code.process}
    arrays |= {"property": flow.property_scale, "context": code.feature_scale}
    for name, part in arrays.items():
        if part is not None:
            for key, array in asdict(part).items():
                tensors[f"{name}.{key}"] = torch.from_numpy(np.ascontiguousarray(array))
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
    return checkpoint.save(folder, tensors, card)


def load_flow(flow: JointFlow, path: Path) -> JointFlow:
    """A trained copy of ``flow``; see ``JointFlow.load``."""
    tensors, card = checkpoint.load(path)
    for key, mine in (
        ("properties", flow.properties),
        ("phases", flow.space.phases),
        ("elements", flow.space.elements),
    ):
        if tuple(card[key]) != tuple(mine):
            raise InvalidInputError(
                f"checkpoint {path.name} has {key} {card[key]}, this campaign has "
                f"{list(mine)}; use the checkpoint's own campaign"
            )
    settings = dict(card["settings"])
    vae_settings = VAESettings(**settings.pop("vae"))
    new = copy.copy(flow)
    # Sizes come from the file, training lengths from the campaign.
    sizes = {k: settings[k] for k in SIZES}
    new.settings = replace(flow.settings, **sizes, vae=vae_settings)

    def part(name: str) -> dict[str, NDArray[Any]]:
        start = name + "."
        return {k[len(start) :]: v.numpy() for k, v in tensors.items() if k.startswith(start)}

    phases = len(flow.space.phases)
    compositions, process, features = part("code"), part("process"), part("features")
    has_images = card["latent_shape"] is not None
    new.code = JointCode(
        space=flow.space,
        vae=ImageVAE.restore(tensors, vae_settings, phases, flow.device) if has_images else None,
        compositions=CompositionCode(**compositions) if compositions else None,
        process=Standardiser(**process) if process else None,
        features=ImageFeatures(phases, card["lag"], **features) if features else None,
        feature_scale=Standardiser(**part("context")) if features else None,
    )
    new.property_scale = PropertyScale(**part("property"))
    new.linear = GaussianVelocity(**{k: tensors[f"linear.{k}"] for k in LINEAR})
    new.network = new.make_network(new.code)
    new.head = new.make_head(new.code)
    for name, network in (("flow.", new.network), ("head.", new.head)):
        if network is not None:
            weights = {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}
            network.load_state_dict(weights)
            network.eval()
    new.near = tensors["near"].numpy()
    return new
