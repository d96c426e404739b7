"""Compositions that nobody gave: drawn from all that a campaign's space allows."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from loop.campaign import Campaign
from loop.sampling import sample, sobol


def sampled_table(campaign: Campaign) -> NDArray[np.float64]:
    """The compositions (n, p, e) that ``[compositions] sample`` asks for, read-only.

    Each phase is drawn for itself, by ``sampling.sobol`` or ``sampling.sample``, and rows of
    different phases go together at random: two Sobol sequences row by row would not be independent.
    Every row is feasible within 1e-9, absent elements are exactly 0; always the same for the same
    settings. With "at most k elements" there are at most ``sampling.SUPPORTS`` sets of elements.
    """
    settings, space = campaign.compositions, campaign.space
    assert settings is not None
    table = np.empty((settings.n, len(space.phases), len(space.elements)))
    for i, phase in enumerate(space.phases):
        words = np.random.SeedSequence([settings.seed, i])
        rng = np.random.default_rng(words)
        if settings.sample == "sobol":
            found = sobol(space.allowed(phase), settings.n, seed=int(words.generate_state(1)[0]))
        else:
            found = sample(space.allowed(phase), settings.n, rng)
        table[:, i] = found[rng.permutation(settings.n)] if i else found
    table.setflags(write=False)
    return table


def sampled_hash(campaign: Campaign, files: str) -> str:
    """SHA-256 of what decides the compositions and of ``files``, the hash of what was read.

    Not of the compositions themselves, whose last digits another machine may give otherwise.
    """
    settings, space = campaign.compositions, campaign.space
    assert settings is not None
    decides = {
        "sample": settings.sample,
        "n": settings.n,
        "seed": settings.seed,
        "elements": space.elements,
        "phases": {
            phase: [dict(space.bounds.get(phase, {})), space.constraints_of(phase)]
            for phase in space.phases
        },
        "files": files,
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
