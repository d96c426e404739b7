"""Checkpoints of the joint autoencoder: what is kept, and how a generator is rebuilt from it."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from generators.code_files import arrays_of, code_tensors, part_of, restore_code
from generators.joint_vae import JointVAE
from generators.training import checkpoint
from generators.training.card import load_weights, settings_from
from generators.vae import VAESettings
from loop.scaling import PropertyScale

SIZES = ("width", "channels", "depth")


def save_vae(generator: JointVAE, folder: Path) -> tuple[str, Path]:
    """Weights, scales and model card; see ``JointVAE.save``."""
    network = generator.trained_network()
    code = generator.code
    assert code is not None
    tensors = {f"joint.{k}": v for k, v in network.state_dict().items()}
    tensors |= code_tensors(code) | arrays_of("property", generator.property_scale)
    tensors["near"] = torch.from_numpy(np.ascontiguousarray(generator.near))
    card = {
        "generator": generator.name,
        "settings": asdict(generator.settings),
        "properties": generator.properties,
        "phases": generator.space.phases,
        "elements": generator.space.elements,
        "image_shape": generator.space.image_shape,
        "process": tuple(generator.space.process),
        "lag": None if code.features is None else code.features.lag,
        "data_hash": generator.library.data_hash,
        "figures": generator.figures,
    }
    return checkpoint.save(folder, tensors, card)


def load_vae(generator: JointVAE, path: Path) -> JointVAE:
    """A trained copy of ``generator``; see ``JointVAE.load``."""
    space = generator.space
    tensors, card = checkpoint.load(
        path,
        generator=generator.name,
        properties=generator.properties,
        phases=space.phases,
        elements=space.elements,
        image_shape=space.image_shape,
        process=tuple(space.process),
    )
    settings = dict(card["settings"])
    vae_settings = settings_from(VAESettings, settings.pop("vae"), path)
    new = copy.copy(generator)
    # Sizes come from the file, training lengths from the campaign.
    sizes = {k: settings[k] for k in SIZES}
    new.settings = replace(generator.settings, **sizes, vae=vae_settings)
    new.code = restore_code(tensors, space, vae_settings, lag=card["lag"], device=generator.device)
    new.property_scale = PropertyScale(**part_of(tensors, "property"))
    new.network = new.make_network(new.code, tensors["joint.loadings"].shape[1])
    load_weights(new.network, tensors, "joint.", path)
    new.network.eval()
    new.near = tensors["near"].numpy()
    new.figures = dict(card["figures"])
    return new
