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


def with_files(settings: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Settings of which nobody says what is a path: texts that name files in ``folder`` are paths.

    Those that name nothing there stay as they are.
    """
    if folder is None:
        return dict(settings)
    return {key: _file_in(folder, value) for key, value in settings.items()}


def _file_in(folder: Path, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    path = folder / value
    try:
        return str(path) if path.is_file() else value
    except (OSError, ValueError):  # a text that cannot be a path
        return value
