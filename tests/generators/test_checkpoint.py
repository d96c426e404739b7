"""Checkpoints: named by content, refused when damaged, never unpickled."""

from __future__ import annotations

import hashlib
import pickle
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from generators.training import checkpoint
from loop.errors import InvalidInputError

CARD = {"generator": "joint-flow", "settings": {"width": 32, "vae": {"steps": 3}}, "shape": [1, 2]}


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 3, 5, generator=draws)
    return {
        "weight": weight,
        "transposed": weight.permute(2, 0, 1),  # not contiguous
        "double": torch.randn(2, generator=draws, dtype=torch.float64),
        "flags": torch.tensor([True, False]),
        "special": torch.tensor([torch.nan, torch.inf, -0.0, 1e-45]),
        "empty": torch.zeros(0, 3),
    }


def test_round_trip_is_bit_equal(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    _, path = checkpoint.save(tmp_path, tensors, CARD)
    found, card = checkpoint.load(path)
    assert card == CARD
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert found[name].numpy().tobytes() == tensor.contiguous().numpy().tobytes()


def test_the_name_is_the_hash_of_the_content(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    digest, path = checkpoint.save(tmp_path / "deep" / "er", tensors, CARD)
    assert path.name == f"{digest}.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    beside = {path.name, path.with_suffix(".json").name}
    assert {p.name for p in path.parent.iterdir()} == beside  # no draft is left


def test_equal_content_is_one_file(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    first, path = checkpoint.save(tmp_path, tensors, CARD)
    before = path.stat().st_mtime_ns
    second, _ = checkpoint.save(tmp_path, dict(reversed(tensors.items())), CARD)
    assert first == second
    assert path.stat().st_mtime_ns == before
    third, _ = checkpoint.save(tmp_path, tensors, {**CARD, "shape": [1, 3]})
    assert third != first
    assert len(list(tmp_path.glob("*.safetensors"))) == 2


@pytest.mark.parametrize("place", ["start", "middle", "end", "cut", "empty"])
def test_damage_is_found(tensors: dict[str, Tensor], tmp_path: Path, place: str) -> None:
    _, path = checkpoint.save(tmp_path, tensors, CARD)
    data = bytearray(path.read_bytes())
    if place == "cut":
        data = data[:-1]
    elif place == "empty":
        data = bytearray()
    else:
        data[{"start": 0, "middle": len(data) // 2, "end": -1}[place]] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidInputError, match="does not match the hash in its name; it is dam"):
        checkpoint.load(path)


def test_a_renamed_file_is_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    _, path = checkpoint.save(tmp_path, tensors, CARD)
    with pytest.raises(InvalidInputError, match="does not match the hash"):
        checkpoint.load(path.rename(tmp_path / ("0" * 64 + ".safetensors")))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"cannot read checkpoint .*No such file"):
        checkpoint.load(tmp_path / "absent.safetensors")


class Bomb:
    """Would leave a mark when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("unpickled"),)  # type: ignore[return-value]


@pytest.mark.parametrize("content", ["pickle", "torch", "no card"])
def test_nothing_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """Not even from a file whose name is the hash of its content."""
    monkeypatch.chdir(tmp_path)
    if content == "no card":
        from safetensors.torch import save

        data = save({"a": torch.zeros(2)})
    else:
        data = pickle.dumps(Bomb())
        if content == "torch":
            torch.save({"a": Bomb()}, tmp_path / "x")
            data = (tmp_path / "x").read_bytes()
    path = tmp_path / f"{hashlib.sha256(data).hexdigest()}.safetensors"
    path.write_bytes(data)
    with pytest.raises(InvalidInputError, match="is not a"):
        checkpoint.load(path)
    assert not (tmp_path / "unpickled").exists()


def test_a_folder_that_cannot_be_written_leaves_nothing_half_done(
    tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OSError, match="file"):
        checkpoint.save(blocked, tensors, CARD)
    assert stat.S_ISREG(blocked.stat().st_mode)


def test_torch_streams_follow_the_numpy_stream() -> None:
    first, second = (
        torch.rand(5, generator=checkpoint.torch_generator(np.random.default_rng(seed)))
        for seed in (7, 7)
    )
    other = torch.rand(5, generator=checkpoint.torch_generator(np.random.default_rng(8)))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    rng = np.random.default_rng(7)
    one, two = (torch.rand(5, generator=checkpoint.torch_generator(rng)) for _ in range(2))
    assert not torch.equal(one, two)
