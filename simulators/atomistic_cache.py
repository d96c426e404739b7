"""Results of atomistic calculations, kept by the content of what was asked.

The key is the SHA-256 of structure, calculator, its version and every setting that decides the
result, so an entry never has to be thrown away: something else is another key.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loop.errors import InvalidInputError


def content_key(content: Mapping[str, Any]) -> str:
    """SHA-256 of JSON content, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class ResultCache:
    """Results in memory, and in a folder of JSON files where one is given.

    Files are written whole or not at all, so several processes can share a folder. A folder that
    cannot be written later (a full disk) costs time, never a result: see ``problem``.
    Raises InvalidInputError when the folder cannot be made.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.problem = ""
        self.found = 0  # results taken from the cache
        self.made = 0  # results computed
        self._results: dict[str, dict[str, Any]] = {}
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InvalidInputError(
                    f"cache folder {folder} cannot be made: {error.strerror}; name a folder that "
                    "can be written or leave cache out"
                ) from None

    def get(
        self, content: Mapping[str, Any], compute: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """The result for ``content``; ``compute`` makes it (JSON values) where it is not known."""
        key = content_key(content)
        result = self._results.get(key)
        if result is None:
            result = self._read(key)
        if result is not None:
            self.found += 1
        else:
            result = compute()
            self.made += 1
            self._write(key, result)
        self._results[key] = result
        return result

    def _path(self, folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.json"

    def _read(self, key: str) -> dict[str, Any] | None:
        if self.folder is None:
            return None
        try:
            stored = json.loads(self._path(self.folder, key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None  # absent or damaged: it is computed again
        if not isinstance(stored, dict) or stored.get("key") != key:
            return None
        result = stored.get("result")
        return result if isinstance(result, dict) else None

    def _write(self, key: str, result: dict[str, Any]) -> None:
        if self.folder is None:
            return
        path = self._path(self.folder, key)
        text = json.dumps({"key": key, "result": result}, sort_keys=True, allow_nan=False)
        temporary: Path | None = None
        try:
            path.parent.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8"
            ) as stream:
                temporary = Path(stream.name)
                stream.write(text)
            temporary.replace(path)
        except OSError as error:
            self.problem = f"cache {self.folder} cannot be written: {error.strerror or error}"
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink()
