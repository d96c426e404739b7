"""Students as checkpoints, and how they are found: a list beside their teacher's file.

A student's file holds its own networks; coding, scales and the linear part are its teacher's, whose
hash it names. ``<teacher's hash>.students.json`` lists the students there are, the newest last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from generators.flow import JointFlow
from generators.student import JointStudent, StudentSettings
from generators.training import checkpoint
from generators.training.card import expect, load_weights
from generators.training.files import write_whole
from loop.errors import InvalidInputError

ENDING = ".students.json"
NETWORK, HEAD, SKETCH, STATISTICS = "student.", "head.", "sketch.", "statistics."


def save_student(student: JointStudent, folder: Path) -> tuple[str, Path]:
    """Weights and model card into ``folder/<sha256>.safetensors``; returns hash and path."""
    student.trained_network()  # says so when there is none
    tensors = {
        f"{name}{k}": v
        for name, network in networks(student).items()
        for k, v in network.state_dict().items()
    }
    card = {
        "generator": student.name,
        "teacher": student.teacher,
        "settings": asdict(student.lessons),
        "properties": student.properties,
        "phases": student.space.phases,
        "elements": student.space.elements,
        "data_hash": student.library.data_hash,
    }
    return checkpoint.save(folder, tensors, card, metrics=student.metrics)


def load_student(flow: JointFlow, path: Path, *, teacher: str) -> JointStudent:
    """The student of a trained ``flow``, whose checkpoint has the hash ``teacher``.

    Raises InvalidInputError for a damaged file, one of something else, and another teacher's.
    """
    tensors, card = checkpoint.load(path, generator=JointStudent.name)
    if card.get("teacher") != teacher:
        raise InvalidInputError(
            f"student {path.name} is of the generator {str(card.get('teacher'))[:12]}, not of "
            f"{teacher[:12]}; distil that one (spinodal distil CAMPAIGN)"
        )
    expect(
        card,
        path,
        properties=flow.properties,
        phases=flow.space.phases,
        elements=flow.space.elements,
    )
    given = dict(card["settings"])
    low, high = given.pop("guidance")
    student = JointStudent.of(flow, StudentSettings(guidance=(low, high), **given), teacher)
    # Students from before these were distilled draw statistics with their teacher's network.
    if not any(name.startswith(SKETCH) for name in tensors):
        student.sketcher = student.statistics = None
    for name, network in networks(student).items():
        load_weights(network, tensors, name, path)
        network.eval()
    return student


def networks(student: JointStudent) -> dict[str, nn.Module]:
    """Those that a student has of its own, by the beginning of their weights' names."""
    named = {
        NETWORK: student.network,
        HEAD: student.head,
        SKETCH: student.sketcher,
        STATISTICS: student.statistics,
    }
    return {name: network for name, network in named.items() if network is not None}


# Which there are


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of the list beside a teacher: the student's hash and what it can."""

    sha256: str
    settings: StudentSettings

    def serves(self, guidance: float | None, steps: int | None) -> bool:
        """Whether it knows a guidance scale and takes so many steps; None: any."""
        low, high = self.settings.guidance
        knows = guidance is None or guidance == 0 or low <= guidance <= high
        return knows and (steps is None or steps == self.settings.steps)


def register(folder: Path, student: JointStudent, digest: str) -> Path:
    """Put a student, saved as ``digest``, last on the list beside its teacher; returns the list."""
    path = folder / f"{student.teacher}{ENDING}"
    others = [one for one in registered(folder, student.teacher) if one.sha256 != digest]
    lines = [{"sha256": one.sha256, **asdict(one.settings)} for one in others]
    lines.append({"sha256": digest, **asdict(student.lessons)})
    write_whole(path, (json.dumps({"students": lines}, indent=2) + "\n").encode())
    return path


def registered(folder: Path, teacher: str) -> list[Listed]:
    """The students of a teacher, the newest last. Raises InvalidInputError for a damaged list."""
    path = folder / f"{teacher}{ENDING}"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    try:
        return [_listed(line) for line in json.loads(text)["students"]]
    except (ValueError, KeyError, TypeError):
        raise InvalidInputError(
            f"{path} is not a list of students; remove it and distil again"
        ) from None


def _listed(line: Mapping[str, Any]) -> Listed:
    given = dict(line)
    digest = given.pop("sha256")
    low, high = given.pop("guidance")
    return Listed(str(digest), StudentSettings(guidance=(low, high), **given))
