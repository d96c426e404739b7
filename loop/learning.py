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
from loop.feasible import within_constraints
from loop.features import Features
from loop.known_alloys import KnownAlloys, known_alloys, with_difference
from loop.laboratory import fidelities, laboratories, wanted_of
from loop.ledger import Ledger
from loop.library import Library
from loop.measuring import (
    SIMULATED_PREFIX,
    as_measured,
    best_known,
    confirming_of,
    is_marked,
    is_measured,
    rows_by_fidelity,
    to_measure,
    wanted_again,
)
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
        self.laboratories = laboratories(self.simulators)
        self.confirming = confirming_of(self.simulators)
        self.confirmed = tuple(name for part in self.confirming for name in part.confirms)
        self.wanted = wanted_of(self.laboratories) | wanted_again(self.confirming)
        for laboratory in self.laboratories:
            laboratory.consult(ledger)
        self._untrained = dict(generators)
        self._trained: dict[tuple[str, int], Generator] = {}
        self._started: dict[tuple[str, int], float] = {}
        self._prepared: tuple[Features, Gate, Bank] | None = None
        self._known: tuple[KnownAlloys | None] | None = None  # in a tuple once it was made
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
            properties=(*self.properties, *(SIMULATED_PREFIX + k for k in self.confirmed)),
        )

    # Parts that depend on the campaign alone

    @property
    def features(self) -> Features:
        """What the surrogate sees of a design."""
        return self._parts()[0]

    @property
    def gate(self) -> Gate:
        """What a selection turns away."""
        return self._parts()[1]

    def _parts(self) -> tuple[Features, Gate, Bank]:
        if self._prepared is None:
            seed, space = self.campaign.seed, self.campaign.space
            rng = stage_rng(seed, "library", 0, "bank")
            images = held_out = compositions = None
            if space.image_shape is not None:
                images = self.library.patches(BANK_IMAGES // 4, rng=rng)
                split = "val" if self.library.has_images("val") else "train"
                held_out = self.library.patches(BANK_IMAGES // 16, rng=rng, split=split)
            if space.elements and not self.library.sampled:
                compositions = self.library.table
            features = Features.fit(space, images)
            gate = Gate.fit(space, features.images, images, held_out, compositions)
            self._prepared = features, gate, Bank.draw(self.library, features, BANK_IMAGES, rng)
        return self._prepared

    def with_difference(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates, each with how far it is from the library's nearest alloy in its origin.

        See ``known_alloys.with_difference``; to be called when nothing changes a composition any
        more. As they are in a campaign without known alloys.
        """
        if self._known is None:
            self._known = (known_alloys(self.library),)
        return with_difference(candidates, self._known[0])

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

        ok = best_known(r for r in records if r.outcome.status == "ok")
        again = self._measurable(records, ok)
        most = min(size, len(again), sum(part.per_round for part in self.confirming))
        if arm == "random":
            pool = self._untrained[arm].propose(2 * size + 50, guidance=0.0, rng=stage("propose"))
            pool = within_constraints(self.campaign.space, pool)
            kept, away = valid_and_new(pool, gate, known)
            drawn = stage("measure").permutation(len(again))[:most]
            chosen = [to_measure(again[i].candidate, self.confirmed) for i in drawn]
            picked_at_random = self.with_difference(kept[: size - most])
            return Batch([*picked_at_random, *chosen], [], len(pool), len(kept), away)
        if not ok:
            raise LedgerError(
                "no evaluation so far was ok; look at the reasons with `spinodal query`"
            )
        surrogate = self.surrogate(ok, stage("surrogate"))
        chosen, expected = self._to_measure(again, most, surrogate, ok, stage("measure"))
        ok = self._as_measured(ok, surrogate)
        generator = self.generator(arm, index, ok, surrogate)
        guidance = settings.guidance if arm == LOOP_ARM else (0.0,)
        self.progress("propose", 0, 1)
        pool = propose_pool(generator, settings.pool, targets, guidance, stage("propose"))
        pool = within_constraints(self.campaign.space, pool)
        kept, away = valid_and_new(pool, gate, known)
        self.progress("propose", 1, 1)
        if not kept or most == size:
            return Batch(chosen, expected, len(pool), len(kept), away)
        picked, prediction = select(
            kept,
            surrogate,
            features,
            targets,
            ok,
            size=size - most,
            diversity=settings.diversity,
            rng=stage("select"),
        )
        return Batch(
            [*self.with_difference([kept[i] for i in picked]), *chosen],
            [*predicted_rows(prediction, self.properties, picked), *expected],
            len(pool),
            len(kept),
            away,
        )

    def surrogate(self, ok: Sequence[Record], rng: np.random.Generator) -> Surrogate:
        """The surrogate fitted to scored records; measured values by their uncertainty.

        Of a property that is simulated and measured it learns from both, and predicts what would
        be measured once one value of it has been.
        """
        features, _, _ = self._parts()
        ok = best_known(ok)
        x = features.transform([r.candidate for r in ok])
        x, y, noise, levels = rows_by_fidelity(ok, x, self.properties)
        return Surrogate(self.properties).fit(
            x, y, noise=noise, levels=levels, rng=rng, progress=self.progress
        )

    # Designs that are simulated and then measured (loop.measuring)

    def _measurable(self, records: Sequence[Record], ok: Sequence[Record]) -> list[Record]:
        """Those whose measurement has not been asked for; none where nothing is measured again."""
        if not self.confirming:
            return []
        asked = {r.candidate.id for r in records if is_marked(r.candidate)}
        return [r for r in ok if r.candidate.id not in asked]

    def _to_measure(
        self,
        records: Sequence[Record],
        n: int,
        surrogate: Surrogate,
        ok: Sequence[Record],
        rng: np.random.Generator,
    ) -> tuple[list[Candidate], list[dict[str, dict[str, float]]]]:
        """The n simulated designs whose measurement promises most, marked, and what is expected.

        Judged as proposals are, against what has been measured so far.
        """
        if n == 0:
            return [], []
        features, _, _ = self._parts()
        picked, prediction = select(
            [r.candidate for r in records],
            surrogate,
            features,
            self.campaign.targets,
            [r for r in ok if is_marked(r.candidate)],
            size=n,
            diversity=self.campaign.loop.diversity,
            rng=rng,
        )
        chosen = [to_measure(records[i].candidate, self.confirmed) for i in picked]
        return chosen, predicted_rows(prediction, self.properties, picked)

    def _as_measured(self, ok: Sequence[Record], surrogate: Surrogate) -> list[Record]:
        """The records with what was only simulated as it would be measured, where that is known."""
        names = {k for k in self.confirmed if any(is_measured(r, k) for r in ok)}
        if not names:
            return list(ok)
        features, _, _ = self._parts()
        predicted = surrogate.mean(features.transform([r.candidate for r in ok]))
        return as_measured(ok, predicted, self.properties, names)

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
            pool = within_constraints(self.campaign.space, pool)
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
