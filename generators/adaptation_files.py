"""Adapters and branches as checkpoints: their own weights and the hash of their base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from generators.adaptation import Adapter
from generators.adaptation_flow import base_hash, frozen
from generators.flow import JointFlow
from generators.networks.adapters import adapter_tensors, restore_adapters
from generators.networks.control import ControlBranch
from generators.training import checkpoint
from generators.training.card import load_weights
from loop.errors import InvalidInputError

ADAPTER, BRANCH = "joint-flow adapter", "joint-flow control branch"


def save_adapter(
    flow: JointFlow,
    adapter: Adapter,
    folder: Path,
    *,
    name: str = "",
    metrics: Mapping[str, Any] | None = None,
) -> tuple[str, Path]:
    """Low-rank parts and identifier into ``folder/<sha256>.safetensors``; returns hash and path.

    The model card names the base by ``base_hash``; ``metrics`` go into the card beside the file.
    """
    tensors = {f"lora.{k}": v for k, v in adapter_tensors(adapter.network).items()}
    tensors["identifier"] = adapter.identifier
    card = _card(flow, ADAPTER) | {"name": name, "rank": adapter.rank, "alpha": adapter.alpha}
    return checkpoint.save(folder, tensors, card, metrics=metrics)


def load_adapter(flow: JointFlow, path: Path) -> Adapter:
    """The adapter of a file, for the base that it was trained beside.

    Raises InvalidInputError for a file that is damaged or something else, and for another base.
    """
    tensors, card = _loaded(flow, path, ADAPTER)
    adapter = Adapter(frozen(flow), rank=int(card["rank"]), alpha=float(card["alpha"]))
    parts = {k.removeprefix("lora."): v for k, v in tensors.items() if k.startswith("lora.")}
    restore_adapters(adapter.network, parts)
    adapter.identifier.data.copy_(tensors["identifier"])
    return adapter.to(flow.device).eval()


def save_branch(
    flow: JointFlow,
    branch: ControlBranch,
    folder: Path,
    *,
    metrics: Mapping[str, Any] | None = None,
) -> tuple[str, Path]:
    """As ``save_adapter``."""
    card = _card(flow, BRANCH) | {"maps": branch.maps}
    return checkpoint.save(folder, branch.state_dict(), card, metrics=metrics)


def load_branch(flow: JointFlow, path: Path) -> ControlBranch:
    """As ``load_adapter``."""
    tensors, card = _loaded(flow, path, BRANCH)
    branch = ControlBranch(frozen(flow), int(card["maps"]))
    load_weights(branch, tensors, "", path)
    return branch.to(flow.device).eval()


def _card(flow: JointFlow, kind: str) -> dict[str, Any]:
    return {
        "generator": kind,
        "base": base_hash(flow),
        "properties": flow.properties,
        "phases": flow.space.phases,
        "elements": flow.space.elements,
        "data_hash": flow.library.data_hash,
    }


def _loaded(flow: JointFlow, path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, card = checkpoint.load(path, generator=kind)
    mine, found = base_hash(flow), str(card.get("base"))
    if found != mine:
        raise InvalidInputError(
            f"checkpoint {path.name} was trained beside weights {found[:16]}…, this flow has "
            f"{mine[:16]}…; use it with its own base, or train it anew beside this one"
        )
    return tensors, card
