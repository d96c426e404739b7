"""Model cards: what a checkpoint was trained on and how, and whether it fits what asks for it.

After Mitchell et al. 2019, arXiv:1810.03993. The card inside a checkpoint has what loading looks
at and nothing that differs between two equal trainings; the file beside it has the rest, too.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from generators.training.files import write_whole
from loop.errors import InvalidInputError

Settings = TypeVar("Settings")
FORMAT = 1  # of checkpoints; raised when older programs cannot read what newer ones write
FORMAT_KEY = "format"


def write_beside(path: Path, card: Mapping[str, Any], metrics: Mapping[str, Any]) -> Path:
    """Write a checkpoint's card as ``SHA256.json``: card, metrics, versions, time of writing.

    ``metrics``: final losses, steps, seconds, device and whatever else was measured (JSON).
    One that is there already stays, for the checkpoint was there before.
    """
    beside = path.with_suffix(".json")
    if beside.exists():
        return beside
    whole = {
        "sha256": path.stem,
        **card,
        "metrics": dict(metrics),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "spinodal": _own_version(),
        },
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    text = json.dumps(whole, indent=2, sort_keys=True)
    write_whole(beside, (text + "\n").encode())
    return beside


def _own_version() -> str:
    try:
        return version("spinodal")
    except PackageNotFoundError:  # run from its sources
        return "unknown"


def check_format(card: Mapping[str, Any], path: Path) -> None:
    """Raise InvalidInputError for a checkpoint of another format than this program's."""
    found = card.get(FORMAT_KEY, 1)  # the first ones did not say
    if found != FORMAT:
        raise InvalidInputError(
            f"checkpoint {path} has format {found}; expected {FORMAT}: use the version of "
            "spinodal that wrote it, or train anew"
        )


def expect(card: Mapping[str, Any], path: Path, **wanted: Any) -> None:
    """Raise InvalidInputError for the first of ``wanted`` that the card has otherwise.

    Sequences are compared as JSON has them: (1, 2) is [1, 2].
    """
    for key, mine in wanted.items():
        mine = json.loads(json.dumps(mine))
        found = card.get(key)
        if found != mine:
            raise InvalidInputError(
                f"checkpoint {path.name} has {key} {found}, this campaign has {mine}; use the "
                "checkpoint's own campaign"
            )


def settings_from(kind: type[Settings], values: Mapping[str, Any], path: Path) -> Settings:
    """A settings dataclass from a card. Raises InvalidInputError for keys that it lacks."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - names):
        raise InvalidInputError(
            f"checkpoint {path.name} has settings that {kind.__name__} lacks: "
            f"{', '.join(unknown)}; use the version of spinodal that wrote it, or train anew"
        )
    return kind(**values)


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str, path: Path) -> None:
    """Weights of ``module`` from the tensors of a checkpoint whose names begin with ``prefix``.

    Raises InvalidInputError where names or shapes are those of another architecture.
    """
    found = {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}
    mine = module.state_dict()
    for name in sorted(mine.keys() | found.keys()):
        shapes = [tuple(part[name].shape) if name in part else None for part in (found, mine)]
        if shapes[0] != shapes[1]:
            has, expected = ("nothing" if shape is None else str(shape) for shape in shapes)
            raise InvalidInputError(
                f"checkpoint {path.name} is of another architecture: it has {has} for "
                f"{prefix}{name}, expected {expected}; use the campaign and settings that it was "
                "trained with"
            )
    module.load_state_dict(found)
