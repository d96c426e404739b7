"""Weights as safetensors files named by the hash of their content. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor

from loop.errors import InvalidInputError

CARD = "card"


def save(folder: Path, tensors: Mapping[str, Tensor], card: Mapping[str, Any]) -> tuple[str, Path]:
    """Write tensors and a model card (JSON) to ``folder/<sha256>.safetensors``.

    Written beside, flushed to disk, then renamed: a crash leaves the old file or the new one.
    Returns the hash and the path.
    """
    contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    data = save_bytes(contiguous, metadata={CARD: json.dumps(card, sort_keys=True)})
    digest = hashlib.sha256(data).hexdigest()
    path = folder / f"{digest}.safetensors"
    if path.exists():
        return digest, path
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f".{digest}.{os.getpid()}.part"
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    directory = os.open(folder, os.O_RDONLY)  # the rename itself must survive a power cut
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return digest, path


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and model card of a checkpoint; the content must match the hash in its name.

    Raises InvalidInputError when the file is missing, damaged or was renamed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(
            f"cannot read checkpoint {path}: {error.strerror}; restore the file or start a new "
            "campaign"
        ) from None
    if hashlib.sha256(data).hexdigest() != path.stem:
        raise InvalidInputError(
            f"checkpoint {path} does not match the hash in its name; it is damaged, restore it"
        )
    try:
        tensors = load_bytes(data)
    except SafetensorError as error:
        raise InvalidInputError(f"checkpoint {path} is not a safetensors file: {error}") from None
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    if CARD not in metadata:
        raise InvalidInputError(
            f"checkpoint {path} is not a checkpoint of this program: it has no model card"
        )
    return tensors, json.loads(metadata[CARD])


def torch_generator(rng: Any, device: str = "cpu") -> torch.Generator:
    """A torch generator seeded from a numpy Generator: one stream per stage, both libraries."""
    return torch.Generator(device).manual_seed(int(rng.integers(2**63)))
