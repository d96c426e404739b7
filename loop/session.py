"""Session: a campaign being run. The one stateful class of the loop.

Every stage reads the ledger, does its part and writes it back in one transaction, so a session
may be dropped at any instant: the next one goes on from the ledger and ends with the same designs.
A workflow engine calls the stages one by one; ``run`` calls them in order without one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from loop.candidate import Candidate, Fidelity, Outcome
from loop.errors import InvalidInputError, LedgerError
from loop.laboratory import AWAITED, counted, known_designs
from loop.learning import Learning
from loop.measuring import Confirmation, fidelities_of_measured, is_marked, joined, to_measure
from loop.protocols import Generator
from loop.round import evaluate, stage_rng, valid_and_new
from loop.summary import LOOP_ARM, SEED_ARM, RoundSummary, summarise


class Session(Learning):
    """Campaign, ledger and the parts made for it; see the module's text."""

    # Stages

    def prepare(self) -> None:
        """Plan the seeds: library designs scored before the first round, shared by all arms.

        Where designs were measured beforehand, these are the seeds, all of them. A campaign that
        had stopped and may go on is taken up again. Where the library has fewer valid designs than
        ``loop.seeds`` these are all, which ``remarks`` says; raises InvalidInputError where it has
        none.
        """
        if self.stop_reason() is None:
            self.ledger.finish(self.campaign_id, None)
        if self.ledger.is_planned(self.campaign_id, SEED_ARM, 0):
            return
        if known := known_designs(self.simulators):
            self._plan_seeds(known)
            return
        rng = stage_rng(self.campaign.seed, SEED_ARM, 0, "draw")
        wanted = self.campaign.loop.seeds
        _, gate, _ = self._parts()
        found: list[Candidate] = []
        for _ in range(20):
            pool = self.library.draw(2 * wanted, rng=rng)
            kept, away = valid_and_new(pool, gate, {c.id for c in found})
            found += kept
            if len(found) >= wanted:
                break
        if not found:
            reasons = ", ".join(f"{kind} ({n})" for kind, n in away.items())
            raise InvalidInputError(
                f"none of the library's designs can be a seed: {reasons}; widen the space, or give "
                "other data"
            )
        if len(found) < wanted:
            self.progress(_fewer(len(found), wanted), len(found), len(found))
        self._plan_seeds(found[:wanted])

    def remarks(self) -> list[str]:
        """What is to be said of the campaign besides its results; empty when nothing is."""
        if known_designs(self.simulators) or not self.ledger.is_planned(
            self.campaign_id, SEED_ARM, 0
        ):
            return []
        seeds = {c.id for c in self.ledger.planned(self.campaign_id, SEED_ARM, 0)}
        wanted = self.campaign.loop.seeds
        return [_fewer(len(seeds), wanted)] if len(seeds) < wanted else []

    def _plan_seeds(self, seeds: Sequence[Candidate]) -> None:
        """Put them on record, and after them those that are to be measured as well."""
        most = sum(part.of_seeds for part in self.confirming)
        again = [to_measure(candidate, self.confirmed) for candidate in seeds[:most]]
        self.ledger.plan_batch(self.campaign_id, SEED_ARM, 0, [*seeds, *again])

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
        """Score one chunk. Returns how many were scored.

        A design that the same version of the same simulators has scored, in whatever arm or
        campaign of the ledger, keeps what it was given then; a failed one is tried again. What
        is pending is noted as asked for and stays without an outcome; it is not handed in again
        before all that was asked for has been told. Outcomes of designs that are simulated go
        into the ledger in one transaction, those of designs that are measured again
        (``loop.measuring``) in another.
        """
        size = self.campaign.loop.chunk
        planned = self.ledger.planned(self.campaign_id, arm, index)
        pending = self.ledger.pending(self.campaign_id, arm, index)
        chosen = {i: planned[i] for i in pending if i // size == chunk}
        waiting = self.ledger.open_requests(self.campaign_id) if self.laboratories else {}
        # A design may be asked for elsewhere; what only simulates it need not wait for that.
        everyone = any(laboratory.outputs for laboratory in self.laboratories)
        chosen = {
            i: candidate
            for i, candidate in chosen.items()
            if candidate.id not in waiting or not (everyone or is_marked(candidate))
        }
        if not chosen:
            return 0
        found = self._simulated(chosen, fresh=everyone)
        again = {i: c for i, c in chosen.items() if is_marked(c) and found[i].status == "ok"}
        if again:
            told = evaluate([Confirmation(part) for part in self.confirming], list(again.values()))
            for i, outcome in zip(again, told, strict=True):
                found[i] = joined(found[i], outcome) if outcome.status == "ok" else outcome
        asked = {
            chosen[i].id: {name: self.wanted[name] for name in names if name in self.wanted}
            for i, outcome in found.items()
            if outcome.status == "pending" and (names := outcome.diagnostics.get(AWAITED))
        }
        if asked:
            self.ledger.ask(self.campaign_id, asked)
        scored = {i: outcome for i, outcome in found.items() if outcome.status != "pending"}
        measured = {i: outcome for i, outcome in scored.items() if is_marked(chosen[i])}
        simulated = {i: outcome for i, outcome in scored.items() if i not in measured}
        self._add(arm, index, simulated, self.version, self.fidelity)
        if measured:
            # Under a version of its own: it is nothing that another campaign may take for a
            # simulated outcome.
            fidelity = fidelities_of_measured(self.fidelity, self.confirmed)
            self._add(arm, index, measured, f"{self.version} measured", fidelity)
        return len(scored)

    def _simulated(self, chosen: Mapping[int, Candidate], *, fresh: bool) -> dict[int, Outcome]:
        """Outcomes by the simulators; with ``fresh`` what is on record is not looked at.

        What a laboratory has told may have been corrected since a design was scored.
        """
        known = {
            i: None
            if fresh
            else self.ledger.cached_outcome(candidate.id, self.simulator, self.version)
            for i, candidate in chosen.items()
        }
        unknown = {chosen[i].id: chosen[i] for i, seen in known.items() if seen is None}
        new = dict(
            zip(unknown, evaluate(self.simulators, list(unknown.values())), strict=True),
        )
        return {i: new[chosen[i].id] if seen is None else seen for i, seen in known.items()}

    def _add(
        self,
        arm: str,
        index: int,
        outcomes: Mapping[int, Outcome],
        version: str,
        fidelity: Mapping[str, Fidelity],
    ) -> None:
        self.ledger.add_outcomes(
            self.campaign_id,
            arm,
            index,
            list(outcomes),
            list(outcomes.values()),
            simulator=self.simulator,
            version=version,
            targets=self.campaign.targets,
            fidelity=fidelity,
        )

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
        if not hasattr(self._untrained[arm], "save"):
            raise LedgerError(
                f"campaign {self.campaign.name!r} proposes with "
                f"{self._untrained[arm].name!r}, which is not trained; its proposals are those of "
                "the rounds (spinodal query, ask), and a trained one is such as joint-flow"
            )
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


def _fewer(found: int, wanted: int) -> str:
    return f"the library has {found} valid designs for seeds, {wanted} were asked for (loop.seeds)"
