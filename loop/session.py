"""Session: a campaign being run. The one stateful class of the loop.

Every stage reads the ledger, does its part and writes it back in one transaction, so a session
may be dropped at any instant: the next one goes on from the ledger and ends with the same designs.
A workflow engine calls the stages one by one; ``run`` calls them in order without one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from loop.candidate import Candidate
from loop.errors import LedgerError
from loop.laboratory import AWAITED, counted
from loop.learning import Learning
from loop.protocols import Generator
from loop.round import evaluate, stage_rng, valid_and_new
from loop.summary import LOOP_ARM, SEED_ARM, RoundSummary, summarise


class Session(Learning):
    """Campaign, ledger and the parts made for it; see the module's text."""

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

    def chunks(self, arm: str, index: int) -> list[int]:
        """Numbers of the fixed chunks of a batch that still lack outcomes."""
        size = self.campaign.loop.chunk
        return sorted({i // size for i in self.ledger.pending(self.campaign_id, arm, index)})

    def evaluate(self, arm: str, index: int, chunk: int) -> int:
        """Score one chunk; all its outcomes in one transaction. Returns how many were scored.

        A design that the same version of the same simulators has scored, in whatever arm or
        campaign of the ledger, keeps what it was given then; a failed one is tried again. What
        is pending is noted as asked for and stays without an outcome; it is not handed in again
        before all that was asked for has been told.
        """
        size = self.campaign.loop.chunk
        planned = self.ledger.planned(self.campaign_id, arm, index)
        positions = list(range(chunk * size, min((chunk + 1) * size, len(planned))))
        pending = set(self.ledger.pending(self.campaign_id, arm, index))
        waiting = self.ledger.open_requests(self.campaign_id) if self.laboratories else {}
        positions = [i for i in positions if i in pending and planned[i].id not in waiting]
        if not positions:
            return 0
        # What has been told may have been corrected since a design was scored.
        known = [
            None
            if self.laboratories
            else self.ledger.cached_outcome(planned[i].id, self.simulator, self.version)
            for i in positions
        ]
        unknown = [planned[i] for i, seen in zip(positions, known, strict=True) if seen is None]
        fresh = iter(evaluate(self.simulators, unknown))
        found = {
            i: next(fresh) if seen is None else seen
            for i, seen in zip(positions, known, strict=True)
        }
        asked = {
            planned[i].id: {name: self.wanted[name] for name in names if name in self.wanted}
            for i, outcome in found.items()
            if outcome.status == "pending" and (names := outcome.diagnostics.get(AWAITED))
        }
        if asked:
            self.ledger.ask(self.campaign_id, asked)
        scored = {i: outcome for i, outcome in found.items() if outcome.status != "pending"}
        self.ledger.add_outcomes(
            self.campaign_id,
            arm,
            index,
            list(scored),
            list(scored.values()),
            simulator=self.simulator,
            version=self.version,
            targets=self.campaign.targets,
            fidelity=self.fidelity,
        )
        return len(scored)

    def finish_round(self, arm: str, index: int) -> RoundSummary:
        """Summarise a scored round into the ledger.

        Raises LedgerError while some of its outcomes are pending.
        """
        if left := len(self.ledger.pending(self.campaign_id, arm, index)):
            raise LedgerError(
                f"round {index} of arm {arm!r} waits for {left} outcomes; it ends when it has them"
            )
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
        index = 1
        while not self.unfinished_arms(index):
            index += 1
        return index

    def latest(self, arm: str) -> Generator:
        """The arm's generator of the last round that trained one.

        Raises LedgerError when none has been trained and kept yet.
        """
        for index in range(self.next_round(), 0, -1):
            if (found := self.restored(arm, index)) is not None:
                return found
        raise LedgerError(
            f"campaign {self.campaign.name!r} has no trained generator yet; run it first"
        )

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

    def waits(self) -> str | None:
        """What a run that stopped is still waiting for; None when one can go on.

        One can when some design has everything that was asked for it, or none is waiting.
        """
        if self.ledger.waiting(self.campaign_id) is None:
            return None
        unscored = self.ledger.unscored(self.campaign_id)
        if not unscored or not unscored <= set(self.ledger.open_requests(self.campaign_id)):
            return None
        return self.open_work()

    def open_work(self) -> str:
        """What is pending, in words."""
        requests = self.ledger.open_requests(self.campaign_id)
        if not requests:
            unscored = len(self.ledger.unscored(self.campaign_id))
            return f"waiting for outcomes of {counted(unscored, 'design')} by {self.simulator}"
        measurements = counted(sum(requests.values()), "measurement")
        return f"waiting for {measurements} of {counted(len(requests), 'design')}"

    def wait(self) -> str:
        """Note that the campaign waits, and for what; returns that."""
        what = self.open_work()
        self.ledger.wait(self.campaign_id, what)
        return what

    def is_scored(self, arm: str, index: int) -> bool:
        """Whether an arm's round is planned and nothing of it is pending."""
        planned = self.ledger.is_planned(self.campaign_id, arm, index)
        return planned and not self.ledger.pending(self.campaign_id, arm, index)

    def unfinished_arms(self, index: int) -> list[str]:
        """Arms that have not finished a round, in their order."""
        rounds = self.ledger.rounds(self.campaign_id)
        done = set(rounds.loc[rounds["round"] == index, "arm"]) if len(rounds) else set()
        return [arm for arm in self.arms if arm not in done]

    # The plain run

    def run_stage(self, arm: str, index: int) -> RoundSummary | None:
        """Plan, score and summarise one arm's round; None while some of it is pending."""
        self._started.setdefault((arm, index), time.monotonic())
        if index > 0:
            self.plan(arm, index)
        chunks = self.chunks(arm, index)
        for done, chunk in enumerate(chunks):
            self.progress(f"simulate {arm}", done, len(chunks))
            self.evaluate(arm, index, chunk)
        self.progress(f"simulate {arm}", len(chunks), len(chunks))
        return self.finish_round(arm, index) if self.is_scored(arm, index) else None

    def run_round(self, index: int) -> list[RoundSummary]:
        """One round of every arm that has not finished it; those that could be finished.

        All arms ask for what they need before the round waits for any of it.
        """
        found = [self.run_stage(arm, index) for arm in self.unfinished_arms(index)]
        return [summary for summary in found if summary is not None]

    def run(self, on_round: Callable[[list[RoundSummary]], None] | None = None) -> str:
        """The whole campaign without a workflow engine; returns why it stopped.

        It stops, too, when a round needs what people are still to measure.
        """
        with self.ledger.claim(self.campaign_id):
            if (waiting := self.waits()) is not None:
                return waiting
            self.prepare()
            seeds = self.ledger.rounds(self.campaign_id, SEED_ARM)
            if self.chunks(SEED_ARM, 0) or not len(seeds):
                self.run_stage(SEED_ARM, 0)
                if not self.is_scored(SEED_ARM, 0):
                    return self.wait()
            while (reason := self.stop_reason()) is None:
                index = self.next_round()
                found = self.run_round(index)
                if self.unfinished_arms(index):
                    return self.wait()
                if on_round is not None:
                    on_round(found)
            self.ledger.finish(self.campaign_id, reason)
            return reason
