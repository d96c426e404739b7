"""Pictures of a campaign for files: gallery, one candidate, rounds, requested against simulated.

Every function writes one PNG and returns its path; a path that cannot be written is an
InvalidInputError. The page draws its charts from the same views.
"""

from __future__ import annotations

from interface.plots_candidates import candidate_figure, gallery
from interface.plots_micrographs import micrograph_comparison
from interface.plots_rounds import requested_simulated_figure, rounds_figure

__all__ = [
    "candidate_figure",
    "gallery",
    "micrograph_comparison",
    "requested_simulated_figure",
    "rounds_figure",
]
