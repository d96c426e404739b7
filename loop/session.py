"""Session: a campaign being run. The one stateful class of the loop.

Every stage reads the ledger, does its part and writes it back in one transaction, so a session
may be dropped at any instant: the next one goes on from the ledger and ends with the same designs.
A workflow engine calls the stages one by one; ``run`` calls them in order without one.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from loop.campaign import Campaign
from loop.candidate import Candidate, Record
from loop.checks import check_outputs, check_targets
from loop.designs import Bank, screened_designs
from loop.errors import LedgerError
from loop.features import Features
from loop.ledger import Ledger
from loop.library import Library
from loop.protocols import Generator, Progress, Simulator, silent
from loop.round import (
    Batch,
    evaluate,
    predicted_records,
    predicted_rows,
    propose_pool,
    select,
    stage_rng,
    valid_and_new,
)
from loop.summary import LOOP_ARM, SEED_ARM, RoundSummary, summarise
from loop.surrogate import Surrogate
from loop.validity import Gate

BANK_IMAGES = 16384
MUTANTS = 0.25  # share of the designs to learn from that are mutants of the best records


class Keepable(Protocol):
    """What a generator offers besides the contract when it has weights worth keeping."""

    def save(self, folder: Path) -> tuple[str, Path]: ...
    def load(self, path: Path) -> Generator: ...


class Session:
    """Campaign, ledger and the parts made for it; see the module's text."""

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

    # Stages

    def prepare(self) -> None:
        """Plan the seeds: library designs scored before the first round, shared by all arms.

        A campaign that had stopped and may go on is taken up again.
        """
        if self.stop_reason() is None:
            self.ledger.finish(self.campaign_id, None)
        if self.ledger.is_planned(self.campaign_id, SEED_ARM, 0):
            return
        rng = stage_rng(self.campaign.seed, SEED_ARM, 0, "draw")
        wanted = self.campaign.loop.seeds
        _, gate, _ = self._parts()
        found: list[Candidate] = []
        for _ in range(20):
            pool = self.library.draw(2 * wanted, rng=rng)
            kept, _ = valid_and_new(pool, gate, {c.id for c in found})
            found += kept
            if len(found) >= wanted:
                break
        self.ledger.plan_batch(self.campaign_id, SEED_ARM, 0, found[:wanted])

    def plan(self, arm: str, index: int) -> int:
        """Fit, propose, select; the batch goes into the ledger. Returns its size.

        Does nothing when the batch is planned already. An arm whose budget is used up plans none,
        and nothing is trained for that.
        """
        if not self.ledger.is_planned(self.campaign_id, arm, index):
            self._started[arm, index] = time.monotonic()
            batch = self._propose(arm, index, self._batch_size(arm, index))
            self.ledger.plan_batch(
                self.campaign_id,
                arm,
                index,
                batch.candidates,
                predicted=batch.predicted or None,
                details={
                    "pool": batch.pool,
                    "pool_valid": batch.pool_valid,
                    "turned_away": batch.turned_away,
                },
            )
        return len(self.ledger.planned(self.campaign_id, arm, index))

    def _batch_size(self, arm: str, index: int) -> int:
        """How many designs the arm's budget leaves for a round."""
        settings = self.campaign.loop
        if settings.budget is None:
            return settings.batch
        # Counted, for an earlier batch may have been cut short.
        frame = self.ledger.evaluations(self.campaign_id, columns=("arm", "round"))
        spent = int(((frame["arm"] == arm) & frame["round"].between(1, index - 1)).sum())
        return max(0, min(settings.batch, settings.budget - spent))

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
        """The surrogate fitted to scored records."""
        features, _, _ = self._parts()
        x = features.transform([r.candidate for r in ok])
        y = np.array([[r.outcome.values.get(k, np.nan) for k in self.properties] for r in ok])
        return Surrogate(self.properties).fit(x, y, rng=rng, progress=self.progress)

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
            generator = start.fit(learned, rng=rng, progress=self.progress)
            if hasattr(generator, "save"):
                digest, path = generator.save(self.checkpoints)
                self.ledger.add_checkpoint(
                    self.campaign_id, arm, index, "generator", digest, str(path), {"round": index}
                )
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

    def chunks(self, arm: str, index: int) -> list[int]:
        """Numbers of the fixed chunks of a batch that still lack outcomes."""
        size = self.campaign.loop.chunk
        return sorted({i // size for i in self.ledger.pending(self.campaign_id, arm, index)})

    def evaluate(self, arm: str, index: int, chunk: int) -> int:
        """Score one chunk; all its outcomes in one transaction. Returns how many were scored.

        A design that the same version of the same simulators has scored, in whatever arm or
        campaign of the ledger, keeps what it was given then; a failed one is tried again.
        """
        size = self.campaign.loop.chunk
        planned = self.ledger.planned(self.campaign_id, arm, index)
        positions = list(range(chunk * size, min((chunk + 1) * size, len(planned))))
        pending = set(self.ledger.pending(self.campaign_id, arm, index))
        positions = [i for i in positions if i in pending]
        if not positions:
            return 0
        known = [
            self.ledger.cached_outcome(planned[i].id, self.simulator, self.version)
            for i in positions
        ]
        unknown = [planned[i] for i, seen in zip(positions, known, strict=True) if seen is None]
        fresh = iter(evaluate(self.simulators, unknown))
        outcomes = [next(fresh) if seen is None else seen for seen in known]
        self.ledger.add_outcomes(
            self.campaign_id,
            arm,
            index,
            positions,
            outcomes,
            simulator=self.simulator,
            version=self.version,
            targets=self.campaign.targets,
        )
        return len(positions)

    def finish_round(self, arm: str, index: int) -> RoundSummary:
        """Summarise a scored round into the ledger."""
        features, _, _ = self._parts()
        started = self._started.get((arm, index))
        seconds = round(time.monotonic() - started, 2) if started is not None else 0.0
        summary = summarise(
            self.ledger,
            self.campaign_id,
            arm,
            index,
            targets=self.campaign.targets,
            features=features,
            seconds=seconds,
        )
        self.ledger.add_round(self.campaign_id, arm, index, summary.as_dict())
        return summary

    # Where it stands

    def next_round(self) -> int:
        """The first round that some arm has not finished."""
        rounds = self.ledger.rounds(self.campaign_id)
        index = 1
        while True:
            done = set(rounds.loc[rounds["round"] == index, "arm"]) if len(rounds) else set()
            if not set(self.arms) <= done:
                return index
            index += 1

    def stop_reason(self) -> str | None:
        """Why no further round is due, judged by the generative arm; None when one is."""
        settings = self.campaign.loop
        done = self.next_round() - 1
        rounds = self.ledger.rounds(self.campaign_id, LOOP_ARM)
        if done == 0 or not len(rounds):
            return None
        rounds = rounds[rounds["round"].between(1, done)].sort_values("round")
        hits = int(rounds["hits_total"].iloc[-1])
        if settings.stop_hits is not None and hits >= settings.stop_hits:
            return f"enough hits: {hits} of {settings.stop_hits} asked for"
        if settings.budget is not None and rounds["evaluated_total"].iloc[-1] >= settings.budget:
            return f"budget: {settings.budget} evaluations are used"
        if done >= settings.rounds:
            return f"rounds: all {settings.rounds} are done"
        span = settings.stagnation_rounds
        if span is not None and done > span:
            recent = rounds.iloc[-span - 1 :]
            stuck = recent["best_distance"].iloc[-1] >= recent["best_distance"].iloc[0]
            if stuck and recent["hits_total"].iloc[-1] == recent["hits_total"].iloc[0]:
                return f"stagnation: nothing better in {span} rounds"
        return None

    # The plain run

    def run_stage(self, arm: str, index: int) -> RoundSummary:
        """Plan, score and summarise one arm's round."""
        self._started.setdefault((arm, index), time.monotonic())
        if index > 0:
            self.plan(arm, index)
        chunks = self.chunks(arm, index)
        for done, chunk in enumerate(chunks):
            self.progress(f"simulate {arm}", done, len(chunks))
            self.evaluate(arm, index, chunk)
        self.progress(f"simulate {arm}", len(chunks), len(chunks))
        return self.finish_round(arm, index)

    def run_round(self, index: int) -> list[RoundSummary]:
        """One round of every arm that has not finished it."""
        rounds = self.ledger.rounds(self.campaign_id)
        done = set(rounds.loc[rounds["round"] == index, "arm"]) if len(rounds) else set()
        return [self.run_stage(arm, index) for arm in self.arms if arm not in done]

    def run(self, on_round: Callable[[list[RoundSummary]], None] | None = None) -> str:
        """The whole campaign without a workflow engine; returns why it stopped."""
        with self.ledger.claim(self.campaign_id):
            self.prepare()
            if self.chunks(SEED_ARM, 0) or not len(self.ledger.rounds(self.campaign_id, SEED_ARM)):
                self.run_stage(SEED_ARM, 0)
            while (reason := self.stop_reason()) is None:
                found = self.run_round(self.next_round())
                if on_round is not None:
                    on_round(found)
            self.ledger.finish(self.campaign_id, reason)
            return reason
