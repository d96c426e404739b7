"""Checkpoints of the joint autoencoder: what is kept, and how a generator is rebuilt from it."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace
from pathlib import Path

from generators.code_files import of_campaign, restore_code, restore_scales, save_generator
from generators.joint_vae import JointVAE
from generators.training import checkpoint
from generators.training.card import load_weights, settings_from
from generators.vae import VAESettings

SIZES = ("width", "channels", "depth")


def save_vae(generator: JointVAE, folder: Path) -> tuple[str, Path]:
    """Weights, scales and model card; see ``JointVAE.save``."""
    network, code = generator.trained_network(), generator.code
    assert code is not None
    return save_generator(
        generator,
        {"joint.": network},
        folder,
        settings=asdict(generator.settings),
        lag=None if code.features is None else code.features.lag,
        figures=generator.figures,
    )


def load_vae(generator: JointVAE, path: Path) -> JointVAE:
    """A trained copy of ``generator``; see ``JointVAE.load``."""
    tensors, card = checkpoint.load(path, **of_campaign(generator))
    settings = dict(card["settings"])
    vae_settings = settings_from(VAESettings, settings.pop("vae"), path)
    new = copy.copy(generator)
    # Sizes come from the file, training lengths from the campaign.
    sizes = {k: settings[k] for k in SIZES}
    new.settings = replace(generator.settings, **sizes, vae=vae_settings)
    new.code = restore_code(
        tensors, generator.space, vae_settings, lag=card["lag"], device=generator.device
    )
    restore_scales(new, tensors)
    new.network = new.make_network(new.code, tensors["joint.loadings"].shape[1])
    load_weights(new.network, tensors, "joint.", path)
    new.network.eval()
    new.figures = dict(card["figures"])
    return new
