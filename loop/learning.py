"""The half of a session that learns and proposes: generators, surrogate, one round's batch."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from loop.campaign import Campaign
from loop.candidate import Candidate, Record
from loop.checks import check_outputs, check_targets
from loop.designs import Bank, screened_designs
from loop.errors import LedgerError
from loop.features import Features
from loop.laboratory import Consulting, fidelities, parts_of, wanted_of
from loop.ledger import Ledger
from loop.library import Library
from loop.protocols import Generator, Progress, Simulator, silent
from loop.round import (
    Batch,
    predicted_records,
    predicted_rows,
    propose_pool,
    select,
    stage_rng,
    valid_and_new,
)
from loop.summary import LOOP_ARM, SEED_ARM
from loop.surrogate import Surrogate
from loop.validity import Gate

BANK_IMAGES = 16384
MUTANTS = 0.25  # share of the designs to learn from that are mutants of the best records


class Keepable(Protocol):
    """What a generator offers besides the contract when it has weights worth keeping."""

    def save(self, folder: Path) -> tuple[str, Path]: ...
    def load(self, path: Path) -> Generator: ...


@runtime_checkable
class Resumable(Protocol):
    """What a generator offers besides when a fit that was killed can go on where it was."""

    def resumable(self, folder: Path) -> Generator:
        """A copy whose next fit keeps its state in ``folder``."""
        ...

    def trained(self) -> None:
        """Its weights are safe: remove that state."""
        ...


class Learning:
    """What is made for a campaign, and what a round learns from and proposes."""

    def __init__(
        self,
        campaign: Campaign,
        ledger: Ledger,
        *,
        library: Library,
        generators: Mapping[str, Generator],
        simulators: Sequence[Simulator],
        checkpoints: Path,
        versions: Mapping[str, str] | None = None,
        progress: Progress = silent,
    ) -> None:
        """``generators``: per arm the untrained generator; the arm "loop" must be among them.

        Raises InvalidCampaignError when two simulators give the same property or a target
        cannot be met (``loop.checks``).
        """
        self.campaign = campaign
        self.ledger = ledger
        self.library = library
        self.simulators = tuple(simulators)
        self.checkpoints = checkpoints
        self.progress = progress
        self.properties = tuple(name for s in self.simulators for name in s.outputs)
        check_outputs(self.simulators)
        check_targets(campaign.targets, self.simulators)
        self.fidelity = fidelities(self.simulators)
        self.laboratories = tuple(
            part for part in parts_of(self.simulators) if isinstance(part, Consulting)
        )
        self.wanted = wanted_of(self.laboratories)
        for laboratory in self.laboratories:
            laboratory.consult(ledger)
        self._untrained = dict(generators)
        self._trained: dict[tuple[str, int], Generator] = {}
        self._started: dict[tuple[str, int], float] = {}
        self._prepared: tuple[Features, Gate, Bank] | None = None
        self.arms = tuple(generators)
        self.simulator = "+".join(s.name for s in self.simulators)
        self.version = "+".join(s.version for s in self.simulators)
        self.campaign_id = ledger.ensure_campaign(
            campaign.name,
            seed=campaign.seed,
            settings=campaign.settings,
            settings_hash=campaign.settings_hash(),
            data_hash=library.data_hash,
            versions={"python": platform.python_version(), self.simulator: self.version}
            | dict(versions or {}),
            properties=self.properties,
        )

    # Parts that depend on the campaign alone

    @property
    def features(self) -> Features:
        """What the surrogate sees of a design."""
        return self._parts()[0]

    def _parts(self) -> tuple[Features, Gate, Bank]:
        if self._prepared is None:
            seed, space = self.campaign.seed, self.campaign.space
            rng = stage_rng(seed, "library", 0, "bank")
            images = held_out = compositions = None
            if space.image_shape is not None:
                images = self.library.patches(BANK_IMAGES // 4, rng=rng)
                split = "val" if self.library.has_images("val") else "train"
                held_out = self.library.patches(BANK_IMAGES // 16, rng=rng, split=split)
            if space.elements:
                compositions = self.library.table
            features = Features.fit(space, images)
            gate = Gate.fit(space, features.images, images, held_out, compositions)
            self._prepared = features, gate, Bank.draw(self.library, features, BANK_IMAGES, rng)
        return self._prepared

    def records(self, arm: str, before: int) -> list[Record]:
        """What an arm knows before a round: the seeds and its own earlier rounds."""
        seeds = self.ledger.records(self.campaign_id, arms=[SEED_ARM])
        own = self.ledger.records(self.campaign_id, arms=[arm], rounds=range(1, before))
        return seeds + own

    def _propose(self, arm: str, index: int, size: int) -> Batch:
        if size == 0:
            return Batch([], [], 0, 0, {})
        settings, targets = self.campaign.loop, self.campaign.targets
        features, gate, _ = self._parts()
        records = self.records(arm, index)
        known = {r.candidate.id for r in records}

        def stage(name: str) -> np.random.Generator:
            return stage_rng(self.campaign.seed, arm, index, name)

        if arm == "random":
            pool = self._untrained[arm].propose(2 * size + 50, guidance=0.0, rng=stage("propose"))
            kept, away = valid_and_new(pool, gate, known)
            return Batch(kept[:size], [], len(pool), len(kept), away)
        ok = [r for r in records if r.outcome.status == "ok"]
        if not ok:
            raise LedgerError(
                "no evaluation so far was ok; look at the reasons with `spinodal query`"
            )
        surrogate = self.surrogate(ok, stage("surrogate"))
        generator = self.generator(arm, index, ok, surrogate)
        guidance = settings.guidance if arm == LOOP_ARM else (0.0,)
        self.progress("propose", 0, 1)
        pool = propose_pool(generator, settings.pool, targets, guidance, stage("propose"))
        kept, away = valid_and_new(pool, gate, known)
        self.progress("propose", 1, 1)
        if not kept:
            return Batch([], [], len(pool), 0, away)
        picked, prediction = select(
            kept,
            surrogate,
            features,
            targets,
            ok,
            size=size,
            diversity=settings.diversity,
            rng=stage("select"),
        )
        return Batch(
            [kept[i] for i in picked],
            predicted_rows(prediction, self.properties, picked),
            len(pool),
            len(kept),
            away,
        )

    def surrogate(self, ok: Sequence[Record], rng: np.random.Generator) -> Surrogate:
        """The surrogate fitted to scored records; measured values by their uncertainty."""
        features, _, _ = self._parts()
        x = features.transform([r.candidate for r in ok])
        y = np.array([[r.outcome.values.get(k, np.nan) for k in self.properties] for r in ok])
        noise = np.array([[r.outcome.uncertainty.get(k, 0.0) for k in self.properties] for r in ok])
        return Surrogate(self.properties).fit(x, y, noise=noise, rng=rng, progress=self.progress)

    def generator(
        self, arm: str, index: int, ok: Sequence[Record], surrogate: Surrogate
    ) -> Generator:
        """The arm's generator fitted for a round, from its checkpoint where there is one."""
        cached = self._trained.get((arm, index))
        if cached is not None:
            return cached
        generator = self.restored(arm, index)
        if generator is None:
            start = self._untrained[arm]
            if hasattr(start, "save"):  # others cannot be taken up again: they learn anew
                start = self.restored(arm, index - 1) or start
            rng = stage_rng(self.campaign.seed, arm, index, "fit")
            learned = list(ok)
            if hasattr(start, "save"):
                learned += self.unscored(ok, surrogate, index, rng)
            if isinstance(start, Resumable):
                start = start.resumable(
                    self.checkpoints / "training" / f"{self.campaign_id}-{arm}-{index}"
                )
            generator = start.fit(learned, rng=rng, progress=self.progress)
            if hasattr(generator, "save"):
                digest, path = generator.save(self.checkpoints)
                self.ledger.add_checkpoint(
                    self.campaign_id, arm, index, "generator", digest, str(path), {"round": index}
                )
            if isinstance(generator, Resumable):
                generator.trained()
        self._trained = {k: v for k, v in self._trained.items() if k[0] != arm}
        self._trained[arm, index] = generator
        return generator

    def restored(self, arm: str, index: int) -> Generator | None:
        """The generator of a round from memory or its checkpoint; None when it has none."""
        if (arm, index) in self._trained:
            return self._trained[arm, index]
        found = self.ledger.checkpoint(self.campaign_id, arm, index, "generator")
        if found is None:
            return None
        path = Path(found.path)
        if not path.exists():  # a ledger that was moved keeps its checkpoints beside it
            path = self.checkpoints / path.name
        untrained: Any = self._untrained[arm]
        loaded: Generator = untrained.load(path)
        return loaded

    def unscored(
        self, ok: Sequence[Record], surrogate: Surrogate, index: int, rng: np.random.Generator
    ) -> list[Record]:
        """Library designs and mutants of the best records, with the surrogate's predictions."""
        features, gate, bank = self._parts()
        settings = self.campaign.loop
        mutator = self._untrained.get("mutation")
        mutants: list[Candidate] = []
        if mutator is not None:
            parents = mutator.fit(ok, rng=rng)
            n = int(MUTANTS * settings.library)
            pool = parents.propose(n, self.campaign.targets, guidance=0.0, rng=rng)
            mutants, _ = valid_and_new(pool, gate, set())
        designs, values = screened_designs(
            settings.library - len(mutants),
            space=self.campaign.space,
            library=self.library,
            bank=bank,
            features=features,
            surrogate=surrogate,
            targets=self.campaign.targets,
            rng=rng,
        )
        learned = predicted_records(designs, values, self.properties, index)
        if mutants:
            predicted = surrogate.mean(features.transform(mutants))
            learned += predicted_records(mutants, predicted, self.properties, index)
        return learned
