"""What checkpoints of all generators over the joint state have in common.

The coding of designs with its scales, the campaign that the weights are of, and how a generator is
rebuilt from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from generators.asked import Asked
from generators.coding import JointCode
from generators.joint import CompositionCode, Standardiser
from generators.pixels import PixelCode
from generators.sparse import SparseCode
from generators.training import checkpoint
from generators.vae import ImageVAE, VAESettings
from loop.features import ImageFeatures
from loop.scaling import PropertyScale
from loop.space import DesignSpace


def arrays_of(name: str, part: Any) -> dict[str, Tensor]:
    """Tensors ``name.field`` of a dataclass of arrays; none of None."""
    if part is None:
        return {}
    return {
        f"{name}.{key}": torch.from_numpy(np.ascontiguousarray(array))
        for key, array in asdict(part).items()
    }


def part_of(tensors: Mapping[str, Tensor], name: str) -> dict[str, NDArray[Any]]:
    """The arrays that ``arrays_of`` wrote under a name; empty when there are none."""
    start = name + "."
    return {k[len(start) :]: v.numpy() for k, v in tensors.items() if k.startswith(start)}


def code_tensors(code: JointCode) -> dict[str, Tensor]:
    """Everything that ``restore_code`` needs, beside the settings and the lag of the features."""
    tensors = {} if code.vae is None else code.vae.tensors()
    if code.features is not None:
        for key in ("mean", "axes"):
            array = np.ascontiguousarray(getattr(code.features, key))
            tensors[f"features.{key}"] = torch.from_numpy(array)
    parts = {"code": code.compositions, "process": code.process, "context": code.feature_scale}
    for name, part in parts.items():
        tensors |= arrays_of(name, part)
    return tensors


def restore_code(
    tensors: dict[str, Tensor],
    space: DesignSpace,
    settings: VAESettings,
    *,
    lag: int | None,
    device: str,
    vector_scale: float = 1.0,
) -> JointCode:
    """The coding of ``code_tensors``; ``lag``: of its features, None without any."""
    phases = len(space.phases)
    compositions, process, features = (
        part_of(tensors, name) for name in ("code", "process", "features")
    )
    vae: ImageVAE | PixelCode | None = None
    if "vae_mean" in tensors:
        vae = ImageVAE.restore(tensors, settings, phases, device)
    elif "pixel_mean" in tensors:
        vae = PixelCode.restore(tensors, phases, device)
    return JointCode(
        space=space,
        vae=vae,
        compositions=_composition_code(compositions),
        process=Standardiser(**process) if process else None,
        features=ImageFeatures(phases, lag, **features) if features and lag is not None else None,
        feature_scale=Standardiser(**part_of(tensors, "context")) if features else None,
        vector_scale=vector_scale,
    )


def _composition_code(
    arrays: Mapping[str, NDArray[Any]],
) -> CompositionCode | SparseCode | None:
    """Of arrays by name; designs without images had the coding of the others once."""
    if not arrays:
        return None
    return SparseCode(**arrays) if "usual" in arrays else CompositionCode(**arrays)


def of_campaign(generator: Asked) -> dict[str, Any]:
    """What a checkpoint has to agree in with the campaign that loads it."""
    space = generator.space
    return {
        "generator": generator.name,
        "properties": generator.properties,
        "phases": space.phases,
        "elements": space.elements,
        "image_shape": space.image_shape,
        "process": tuple(space.process),
        **labels_of(generator),
    }


def labels_of(generator: Asked) -> dict[str, Any]:
    """The labels with their values, which a checkpoint has to agree in; none without any.

    Campaigns without labels have the cards they had before there were any.
    """
    labels = generator.space.labels
    return {"labels": {k: list(values) for k, values in labels.items()}} if labels else {}


def save_generator(
    generator: Asked, networks: Mapping[str, nn.Module | None], folder: Path, **about: Any
) -> tuple[str, Path]:
    """Networks by the prefix of their tensors, coding, scales and model card; hash and path.

    ``about``: what else the card says, its ``settings`` in any case.
    """
    assert generator.code is not None
    tensors: dict[str, Tensor] = {}
    for prefix, network in networks.items():
        if network is not None:
            tensors |= {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    tensors |= scale_tensors(generator)
    card = of_campaign(generator) | {"data_hash": generator.library.data_hash, **about}
    return checkpoint.save(folder, tensors, card)


def scale_tensors(generator: Asked) -> dict[str, Tensor]:
    """Coding, scale of the properties and the values nearest to the targets."""
    assert generator.code is not None
    tensors = code_tensors(generator.code) | arrays_of("property", generator.property_scale)
    tensors["near"] = torch.from_numpy(np.ascontiguousarray(generator.near))
    return tensors


def restore_scales(generator: Asked, tensors: Mapping[str, Tensor]) -> None:
    """What ``scale_tensors`` wrote beside the coding, put into a generator."""
    generator.property_scale = PropertyScale(**part_of(tensors, "property"))
    generator.near = tensors["near"].numpy()
