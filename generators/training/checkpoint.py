"""Weights as safetensors files named by the hash of their content. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor

from generators.training.card import FORMAT, FORMAT_KEY, check_format, expect, write_beside
from generators.training.files import write_whole
from loop.errors import InvalidInputError

CARD = "card"


def save(
    folder: Path,
    tensors: Mapping[str, Tensor],
    card: Mapping[str, Any],
    *,
    metrics: Mapping[str, Any] | None = None,
) -> tuple[str, Path]:
    """Write tensors and a model card (JSON) to ``folder/<sha256>.safetensors``.

    Written beside, flushed to disk, then renamed: a crash leaves the old file or the new one.
    Beside it goes ``<sha256>.json``, the card to read, with ``metrics`` and versions; figures
    that differ between equal trainings (seconds) belong there. Returns the hash and the path.
    """
    contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    inside = {**card, FORMAT_KEY: FORMAT}
    data = save_bytes(contiguous, metadata={CARD: json.dumps(inside, sort_keys=True)})
    digest = hashlib.sha256(data).hexdigest()
    path = folder / f"{digest}.safetensors"
    if not path.exists():
        write_whole(path, data)
    write_beside(path, inside, metrics or {})
    return digest, path


def load(path: Path, **wanted: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and model card of a checkpoint; the content must match the hash in its name.

    ``wanted``: what the card has to say, such as ``generator="joint-flow"``.
    Raises InvalidInputError when the file is missing, damaged, renamed, of another format or
    of something else than ``wanted``.
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
    metadata = metadata_of(data)
    if CARD not in metadata:
        raise InvalidInputError(
            f"checkpoint {path} is not a checkpoint of this program: it has no model card"
        )
    card = json.loads(metadata[CARD])
    check_format(card, path)
    card.pop(FORMAT_KEY, None)
    expect(card, path, **wanted)
    return tensors, card


def metadata_of(data: bytes) -> dict[str, str]:
    """The texts in the header of a safetensors file."""
    length = int.from_bytes(data[:8], "little")
    found: dict[str, str] = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    return found


def torch_generator(rng: Any, device: str = "cpu") -> torch.Generator:
    """A torch generator seeded from a numpy Generator: one stream per stage, both libraries."""
    return torch.Generator(device).manual_seed(int(rng.integers(2**63)))
