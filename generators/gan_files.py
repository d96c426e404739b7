"""Checkpoints of the adversarial pair: what is kept, and how a generator is rebuilt from it."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path

from generators.code_files import of_campaign, restore_code, restore_scales, save_generator
from generators.gan import JointGAN
from generators.training import checkpoint
from generators.training.card import load_weights
from generators.vae import VAESettings

SIZES = ("latent", "local", "channels", "critic_channels", "width", "depth")


def save_gan(generator: JointGAN, folder: Path) -> tuple[str, Path]:
    """Weights of both networks, scales and model card; see ``JointGAN.save``.

    The critic is kept so that training can go on: a new one would have to catch up first.
    """
    networks = {"generator.": generator.trained_network(), "critic.": generator.critic}
    return save_generator(
        generator,
        networks,
        folder,
        settings=asdict(generator.settings),
        figures=generator.figures,
    )


def load_gan(generator: JointGAN, path: Path) -> JointGAN:
    """A trained copy of ``generator``; see ``JointGAN.load``."""
    tensors, card = checkpoint.load(path, **of_campaign(generator))
    new = copy.copy(generator)
    # Sizes come from the file, training lengths from the campaign.
    new.settings = replace(generator.settings, **{k: card["settings"][k] for k in SIZES})
    new.code = restore_code(
        tensors, generator.space, VAESettings(), lag=None, device=generator.device
    )
    restore_scales(new, tensors)
    new.network, new.critic = new.make_networks(new.code)
    for prefix, network in (("generator.", new.network), ("critic.", new.critic)):
        load_weights(network, tensors, prefix, path)
        network.eval()
    new.figures = dict(card["figures"])
    return new
