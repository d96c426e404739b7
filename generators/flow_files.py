"""Checkpoints of the joint flow: what is kept, and how a generator is rebuilt from it."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from generators.flow import JointFlow
from generators.joint import CompositionCode, Standardiser
from generators.training import checkpoint
from generators.vae import ImageVAE, VAESettings
from loop.errors import InvalidInputError
from loop.features import ImageFeatures
from loop.scaling import PropertyScale


def save_flow(flow: JointFlow, folder: Path) -> tuple[str, Path]:
    """Weights, scales and model card; see ``JointFlow.save``."""
    network = flow.trained_network()
    tensors = {f"flow.{k}": v for k, v in network.state_dict().items()}
    if flow.head is not None:
        tensors |= {f"head.{k}": v for k, v in flow.head.state_dict().items()}
    if flow.image_features is not None:
        for key in ("mean", "axes"):
            array = np.ascontiguousarray(getattr(flow.image_features, key))
            tensors[f"features.{key}"] = torch.from_numpy(array)
    tensors["near"] = torch.from_numpy(np.ascontiguousarray(flow.near))
    if flow.vae is not None:
        tensors |= flow.vae.tensors()
    arrays: dict[str, Any] = {"code": flow.code, "process": flow.process_scale}
    arrays |= {"property": flow.property_scale, "context": flow.feature_scale}
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
        "lag": None if flow.image_features is None else flow.image_features.lag,
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
    sizes = {k: settings[k] for k in ("width", "depth", "heads", "head_width", "head_depth")}
    new.settings = replace(flow.settings, **sizes, vae=vae_settings)

    def part(name: str) -> dict[str, NDArray[Any]]:
        start = name + "."
        return {k[len(start) :]: v.numpy() for k, v in tensors.items() if k.startswith(start)}

    if code := part("code"):
        new.code = CompositionCode(**code)
    if process := part("process"):
        new.process_scale = Standardiser(**process)
    new.property_scale = PropertyScale(**part("property"))
    shape = card["latent_shape"]
    if shape is not None:
        new.vae = ImageVAE.restore(tensors, vae_settings, len(flow.space.phases), flow.device)
    new.network = new.make_network(tuple(shape) if shape is not None else None)
    new.network.load_state_dict(
        {k.removeprefix("flow."): v for k, v in tensors.items() if k.startswith("flow.")}
    )
    new.network.eval()
    if features := part("features"):
        new.image_features = ImageFeatures(len(flow.space.phases), card["lag"], **features)
        new.feature_scale = Standardiser(**part("context"))
    new.head = new.make_head(new.network)
    if new.head is not None:
        new.head.load_state_dict(
            {k.removeprefix("head."): v for k, v in tensors.items() if k.startswith("head.")}
        )
        new.head.eval()
    new.near = tensors["near"].numpy()
    return new
