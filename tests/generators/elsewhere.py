"""A device that is not the CPU, on the CPU: what mixes its tensors with the CPU's fails there.

As on a GPU: tensors of both are refused together, numpy takes none of it, an index may come from
the CPU, and numbers without dimensions go anywhere. Results are those of the CPU but for the order
of sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = "meta"  # under its name
ACROSS = ("aten::_to_copy", "aten::copy_", "aten::set_")
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


class There(Tensor):
    """A tensor on the device; ``held``: its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        made: There = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(DEVICE),
            requires_grad=held.requires_grad,
        )
        made.held = held.detach()
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return dispatched(func, args, dict(kwargs or {}))


class Elsewhere(TorchDispatchMode):
    """While it is entered, ``DEVICE`` is that device."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return dispatched(func, args, dict(kwargs or {}))


def dispatched(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    name = func._schema.name  # type: ignore[attr-defined]
    given = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    wrapped = {id(x.held): x for x in given if isinstance(x, There)}
    plain = [x for x in given if not isinstance(x, There)]
    if name in INDEXED:  # of the indices, which come second, any may be on the CPU
        plain = [x for x in plain if not any(x is i for i in args[1])]
    if wrapped and name not in ACROSS and any(x.ndim for x in plain):
        raise RuntimeError(f"{name}: expected all tensors on one device, found cpu and {DEVICE}")
    there = bool(wrapped)
    if kwargs.get("device") is not None:
        there = torch.device(kwargs["device"]).type == DEVICE
        kwargs["device"] = torch.device("cpu")
    if name == "aten::copy_":
        there = isinstance(args[0], There)
    if kwargs.get("pin_memory"):
        kwargs["pin_memory"] = False

    def held(x: Any) -> Any:
        return x.held if isinstance(x, There) else x

    found = func(*pytree.tree_map(held, args), **pytree.tree_map(held, kwargs))
    if not there:
        return found

    def back(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        return wrapped.get(id(x)) if id(x) in wrapped else There(x)

    return pytree.tree_map(back, found)
