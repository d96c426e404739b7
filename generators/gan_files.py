"""Checkpoints of the adversarial pair: what is kept, and how a generator is rebuilt from it."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from generators.code_files import arrays_of, code_tensors, part_of, restore_code
from generators.gan import JointGAN
from generators.training import checkpoint
from generators.training.card import load_weights
from generators.vae import VAESettings
from loop.scaling import PropertyScale

SIZES = ("latent", "local", "channels", "critic_channels", "width", "depth")


def save_gan(generator: JointGAN, folder: Path) -> tuple[str, Path]:
    """Weights of both networks, scales and model card; see ``JointGAN.save``.

    The critic is kept so that training can go on: a new one would have to catch up first.
    """
    network, critic, code = generator.trained_network(), generator.critic, generator.code
    assert code is not None
    assert critic is not None
    tensors = {f"generator.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"critic.{k}": v for k, v in critic.state_dict().items()}
    tensors |= code_tensors(code) | arrays_of("property", generator.property_scale)
    tensors["near"] = torch.from_numpy(np.ascontiguousarray(generator.near))
    space = generator.space
    card = {
        "generator": generator.name,
        "settings": asdict(generator.settings),
        "properties": generator.properties,
        "phases": space.phases,
        "elements": space.elements,
        "image_shape": space.image_shape,
        "process": tuple(space.process),
        "data_hash": generator.library.data_hash,
        "figures": generator.figures,
    }
    return checkpoint.save(folder, tensors, card)


def load_gan(generator: JointGAN, path: Path) -> JointGAN:
    """A trained copy of ``generator``; see ``JointGAN.load``."""
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
    new = copy.copy(generator)
    # Sizes come from the file, training lengths from the campaign.
    new.settings = replace(generator.settings, **{k: card["settings"][k] for k in SIZES})
    new.code = restore_code(tensors, space, VAESettings(), lag=None, device=generator.device)
    new.property_scale = PropertyScale(**part_of(tensors, "property"))
    new.network, new.critic = new.make_networks(new.code)
    load_weights(new.network, tensors, "generator.", path)
    load_weights(new.critic, tensors, "critic.", path)
    new.network.eval()
    new.critic.eval()
    new.near = tensors["near"].numpy()
    new.figures = dict(card["figures"])
    return new
