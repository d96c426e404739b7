"""Model cards: what is written beside a checkpoint, and which checkpoints are refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save as save_bytes
from torch import nn

from generators.training import checkpoint
from generators.training.card import load_weights, settings_from
from loop.errors import InvalidInputError

CARD = {"generator": "joint-flow", "phases": ("a", "b"), "data_hash": "12ab", "lag": None}
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3)}


def test_the_card_lies_beside_the_checkpoint(tmp_path: Path) -> None:
    metrics = {"final_loss": 0.25, "steps": 300, "seconds": 12.5, "device": "cpu"}
    digest, path = checkpoint.save(tmp_path, TENSORS, CARD, metrics=metrics)
    card = json.loads((tmp_path / f"{digest}.json").read_text())
    assert card["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert card["metrics"] == metrics
    assert card["versions"]["torch"] == torch.__version__
    assert set(card["versions"]) == {"python", "spinodal", "torch"}
    assert card["written_at"].endswith("+00:00")
    for key, value in CARD.items():
        assert card[key] == (list(value) if isinstance(value, tuple) else value)


def test_figures_that_differ_between_equal_trainings_are_not_in_the_hash(tmp_path: Path) -> None:
    """The checkpoint of a resumed training has the name of the undisturbed one's."""
    first, _ = checkpoint.save(tmp_path, TENSORS, CARD, metrics={"seconds": 1.0})
    second, path = checkpoint.save(tmp_path, TENSORS, CARD, metrics={"seconds": 2.0})
    assert first == second
    card = path.with_suffix(".json")
    assert json.loads(card.read_text())["metrics"] == {"seconds": 1.0}
    card.unlink()  # it is for reading; the checkpoint does without
    assert checkpoint.load(path)[1]["generator"] == "joint-flow"


def test_what_is_wanted_is_looked_at(tmp_path: Path) -> None:
    _, path = checkpoint.save(tmp_path, TENSORS, CARD)
    _, card = checkpoint.load(path, generator="joint-flow", phases=("a", "b"), lag=None)
    assert card == {**CARD, "phases": ["a", "b"]}
    for wanted, said in (
        ({"generator": "vae"}, "has generator joint-flow, this campaign has vae; use the ch"),
        ({"phases": ("b", "a")}, r"has phases \['a', 'b'\], this campaign has \['b', 'a'\]"),
        ({"image_shape": [64, 64]}, r"has image_shape None, this campaign has \[64, 64\]"),
    ):
        with pytest.raises(InvalidInputError, match=f"checkpoint {path.name} {said}"):
            checkpoint.load(path, **wanted)


@pytest.mark.parametrize("version", [0, 2, "1"])
def test_another_format_is_refused(version: Any, tmp_path: Path) -> None:
    data = save_bytes(TENSORS, metadata={"card": json.dumps({**CARD, "format": version})})
    path = tmp_path / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    path.write_bytes(data)
    with pytest.raises(InvalidInputError, match=f"has format {version}; expected 1: use the ver"):
        checkpoint.load(path)


def test_the_first_format_did_not_say_so(tmp_path: Path) -> None:
    data = save_bytes(TENSORS, metadata={"card": json.dumps(CARD)})
    path = tmp_path / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    path.write_bytes(data)
    assert checkpoint.load(path)[1]["data_hash"] == "12ab"


# Architecture


def network(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def test_weights_return_bit_for_bit(tmp_path: Path) -> None:
    first, second = network(), network()
    tensors = {f"net.{k}": v for k, v in first.state_dict().items()} | {"other": torch.ones(1)}
    load_weights(second, tensors, "net.", tmp_path / "x")
    for key, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[key], value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"net.0.bias": torch.zeros(4)},
            r"it has \(4,\) for net.0.bias, expected \(3,\); use the c",
        ),
        ({"net.0.bias": None}, r"it has nothing for net.0.bias, expected \(3,\)"),
        ({"net.2.bias": torch.zeros(4)}, r"it has \(4,\) for net.2.bias, expected nothing"),
    ],
)
def test_other_architectures_are_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    tensors = {f"net.{k}": v for k, v in network().state_dict().items()} | change
    tensors = {k: v for k, v in tensors.items() if v is not None}
    with pytest.raises(InvalidInputError, match=f"checkpoint x is of another architecture: {said}"):
        load_weights(network(), tensors, "net.", tmp_path / "x")


@dataclass(frozen=True)
class Settings:
    width: int = 3
    rate: float = 1e-3


def test_settings_return_and_unknown_ones_are_named(tmp_path: Path) -> None:
    assert settings_from(Settings, asdict(Settings(5)), tmp_path) == Settings(5)
    with pytest.raises(InvalidInputError, match="settings that Settings lacks: depth, heads; use"):
        settings_from(Settings, {"width": 3, "heads": 2, "depth": 1}, tmp_path)
