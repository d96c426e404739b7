"""Where and how often a campaign's trainings draw pictures of what they have learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from generators.training.pictures import Pictures
from generators.training.precision import TrainingSettings
from generators.training.resume import TrainingState

FOLDER = "pictures"


def pictures_of(
    draw: Callable[[], NDArray[Any]], training: TrainingSettings, keep: TrainingState | None
) -> Pictures | None:
    """Pictures (n, h, w) in a folder beside the metrics; None without either or when not wanted."""
    if not training.pictures or keep is None or keep.metrics is None:
        return None
    return Pictures(keep.metrics.parent / FOLDER, draw, training.pictures)
