"""A simulator in a process of its own: one that hangs or dies costs one failed outcome.

Foreign code may loop for ever or take its process with it. Here it runs in a child process that is
asked for one candidate at a time; a child that does not answer in time is killed, and one that is
gone is started again for the next candidate. A simulator gives the same for a batch as for single
candidates (``contract.check_singles``), so nothing but speed depends on it.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from importlib import import_module
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from loop.candidate import Candidate, Outcome
from loop.errors import InvalidCampaignError, SpinodalError
from loop.space import DesignSpace

START_S = 300.0  # a child imports torch and whatever its simulator needs
FAREWELL_S = 2.0


def _serve(connection: Connection, factory: str, given: dict[str, Any]) -> None:
    """The child: describes its simulator, then answers candidates with outcomes until the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    module, _, attribute = factory.partition(":")
    try:
        simulator = getattr(import_module(module), attribute)(**given)
    except SpinodalError as error:
        connection.send(str(error))
        return
    except Exception as error:  # another package's code can fail in any way
        connection.send(f"{factory} cannot be used: {type(error).__name__}: {error}")
        return
    limits, inputs = (dict(getattr(simulator, what, {})) for what in ("limits", "inputs"))
    fidelity = getattr(simulator, "fidelity", "simulated")
    connection.send((simulator.version, dict(simulator.outputs), limits, inputs, fidelity))
    while True:
        try:
            candidate, given_values = connection.recv()
        except EOFError:  # the parent is gone
            return
        try:
            if given_values is None:
                outcome = simulator.evaluate([candidate])[0]
            else:
                outcome = simulator.evaluate_given([candidate], [given_values])[0]
            connection.send(outcome)
        except Exception as error:
            reason = f"{simulator.name} raised {type(error).__name__}: {error}"
            connection.send(Outcome.failed(reason))


class Isolated:
    """The simulator ``name`` behind a process boundary, with ``timeout_s`` seconds a candidate.

    ``factory``: "module:function" that makes it (see ``registry``).
    Raises InvalidCampaignError when the child cannot make it.
    """

    def __init__(
        self,
        name: str,
        factory: str,
        *,
        space: DesignSpace,
        settings: Mapping[str, Any] | None = None,
        device: str = "cpu",
        timeout_s: float,
        wired: tuple[str, ...] = (),
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self._factory = factory
        self._given = {"space": space, "settings": dict(settings or {}), "device": device}
        if wired:
            self._given["wired"] = wired
        if folder is not None:
            self._given["folder"] = folder
        self._child: tuple[BaseProcess, Connection] | None = None
        self.version, self.outputs, self.limits, self.inputs, self.fidelity = self._start()

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Outcome]:
        """One outcome per candidate; ``failed`` where the child hung or died."""
        return [self._one(candidate) for candidate in candidates]

    def evaluate_given(
        self, candidates: Sequence[Candidate], given: Sequence[Mapping[str, float]]
    ) -> list[Outcome]:
        """As ``evaluate``, with the values of wired inputs (``wiring``)."""
        return [self._one(c, values) for c, values in zip(candidates, given, strict=True)]

    def close(self) -> None:
        """End the child process; it is started again when needed."""
        if self._child is None:
            return
        process, connection = self._child
        self._child = None
        connection.close()
        process.join(FAREWELL_S)
        if process.is_alive():
            process.kill()
            process.join()

    def _start(
        self,
    ) -> tuple[str, Mapping[str, str], Mapping[str, tuple[float, float]], Mapping[str, str], str]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=_serve, args=(theirs, self._factory, self._given), daemon=True
        )
        process.start()
        theirs.close()  # else the end of the child would not be seen here
        self._child = process, ours
        try:
            told = ours.recv() if ours.poll(START_S) else f"{self.name} did not start"
        except EOFError:
            process.join(FAREWELL_S)
            told = f"{self.name} ended its process at the start ({_end(process)})"
        if isinstance(told, str):
            self.close()
            raise InvalidCampaignError(told)
        version, outputs, limits, inputs, fidelity = told
        return version, outputs, limits, inputs, fidelity

    def _one(self, candidate: Candidate, given: Mapping[str, float] | None = None) -> Outcome:
        if self._child is None:
            self._start()
        assert self._child is not None
        process, connection = self._child
        try:
            connection.send((candidate, None if given is None else dict(given)))
            if connection.poll(self.timeout_s):
                outcome: Outcome = connection.recv()
                return outcome
        except (EOFError, BrokenPipeError, ConnectionResetError):
            process.join(FAREWELL_S)
            reason = f"{self.name} ended its process ({_end(process)})"
            self.close()
            return Outcome.failed(reason)
        process.kill()
        self.close()
        return Outcome.failed(f"{self.name} gave no answer within {self.timeout_s:g} s")


def _end(process: BaseProcess) -> str:
    code = process.exitcode
    if code is None:
        return "without an exit code"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
