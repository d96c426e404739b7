"""Simulators that raise, hang or take their process with them, as another package's might."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError
from loop.space import DesignSpace


class Unruly:
    """Does what the process variable ``deed`` says; 0 is to behave."""

    name = "unruly"
    version = "1"
    outputs: Mapping[str, str] = {"fraction": "1"}
    limits: Mapping[str, tuple[float, float]] = {"fraction": (0.0, 1.0)}

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        return [self._one(candidate) for candidate in candidates]

    def _one(self, candidate: Candidate) -> Outcome:
        deed = candidate.process["deed"]
        if deed == 1:
            raise RuntimeError("no luck")
        if deed == 2:
            time.sleep(3600)
        if deed == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == 4:
            os._exit(7)
        assert candidate.microstructure is not None
        value = float(candidate.microstructure.mean())
        return Outcome("ok", {"fraction": value}, {"fraction": (0.0, 1.0)}, {"id": candidate.id})


def create(*, space: DesignSpace, settings: Mapping[str, Any], device: str) -> Unruly:  # noqa: ARG001
    if "refuse" in settings:
        raise InvalidCampaignError("unruly: refuse is set; leave it out")
    if "die" in settings:
        os._exit(9)
    return Unruly()
