"""Files that a simulator's settings name: a relative path starts at the campaign's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def from_folder(settings: Mapping[str, Any], folder: Path | None, *keys: str) -> dict[str, Any]:
    """The settings with the paths under ``keys`` as seen from ``folder`` (None: where we are).

    What is no text is left as it is, for the settings' own check to refuse.
    """
    found = dict(settings)
    for key in keys:
        if folder is not None and isinstance(found.get(key), str):
            found[key] = str(folder / found[key])
    return found
