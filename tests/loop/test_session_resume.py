"""A real small campaign killed at every stage and played on ends as the undisturbed one does.

The undisturbed run is another process, in which the workflow engine is not installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import loop.learning
from flows.assembly import open_session
from loop.protocols import Progress
from loop.session import Session
from loop.summary import SEED_ARM
from tests.campaigns import found, write_campaign

ROOT = Path(__file__).resolve().parent.parent.parent
ARMS = ("loop", "random", "mutation")
BANK = 400  # library images that features and gate rest on; every session draws them anew
OVERRIDES: Mapping[str, Mapping[str, Any]] = {
    "simulators": {
        "use": ["composite-chain"],
        "settings": {"composite-chain": {"outputs": ["density_g_per_cm3", "gamma_prime_fraction"]}},
    },
    # Enough that the autoencoder's images pass the gate now and then; nothing has to be good.
    "generator": {"preset": "tiny", "settings": {"vae": {"steps": 60}, "first_steps": 40}},
    "loop": {
        **{"rounds": 2, "batch": 4, "seeds": 24, "library": 32, "pool": 30, "chunk": 3},
        "control_arms": ARMS[1:],
    },
}

WITHOUT_ENGINE = """
import importlib.abc, importlib.metadata, json, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "prefect":
            raise ModuleNotFoundError(f"{name} is absent in this test", name=name)

sys.meta_path.insert(0, Absent())
lookup = importlib.metadata.Distribution.from_name

def from_name(name):
    if name == "prefect":
        raise importlib.metadata.PackageNotFoundError(name)
    return lookup(name)

importlib.metadata.Distribution.from_name = from_name
import loop.learning
from flows.assembly import open_session

campaign, ledger, overrides, bank = sys.argv[1:]
loop.learning.BANK_IMAGES = int(bank)
session = open_session(campaign, ledger, overrides=json.loads(overrides))
print(session.run())
"""


@pytest.fixture(scope="module", autouse=True)
def _small_bank() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.learning, "BANK_IMAGES", BANK)
        yield


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_campaign(tmp_path_factory.mktemp("campaign") / "tiny")


@pytest.fixture(scope="module")
def undisturbed(campaign: Path) -> Path:
    """Ledger of a run from start to end."""
    ledger = campaign.parent / "undisturbed" / "ledger.db"
    ledger.parent.mkdir()
    done = subprocess.run(
        [
            *[sys.executable, "-W", "error::RuntimeWarning", "-c", WITHOUT_ENGINE],
            *[str(campaign), str(ledger), json.dumps(OVERRIDES), str(BANK)],
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "rounds: all 2 are done"
    return ledger


def rounds(session: Session) -> list[dict[str, Any]]:
    """All figures of all rounds that a run may be asked for, but the times."""
    table = session.ledger.rounds(session.campaign_id).drop(columns=["finished_at", "seconds"])
    figures: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return figures


def hits(session: Session) -> list[bool]:
    return [bool(v) for v in session.ledger.evaluations(session.campaign_id)["hit"]]


def same(first: Path, second: Path, campaign: Path) -> None:
    """Both ledgers hold the same designs, outcomes, hits, figures and weights."""
    assert found(first) == found(second)
    sessions = [open_session(campaign, path, overrides=OVERRIDES) for path in (first, second)]
    assert rounds(sessions[0]) == rounds(sessions[1])
    assert hits(sessions[0]) == hits(sessions[1])
    for index in (1, 2):
        weights = [s.ledger.checkpoint(s.campaign_id, "loop", index, "generator") for s in sessions]
        assert weights[0] is not None
        assert weights[1] is not None
        assert weights[0].sha256 == weights[1].sha256
    for session in sessions:
        session.ledger.close()


def test_a_campaign_runs_to_its_end_without_the_workflow_engine(
    campaign: Path, undisturbed: Path
) -> None:
    session = open_session(campaign, undisturbed, overrides=OVERRIDES)
    assert session.ledger.finished(session.campaign_id) == "rounds: all 2 are done"
    versions = session.ledger.campaign_versions(session.campaign_id)
    assert "torch" in versions
    batches = Counter((r.arm, r.round) for r in session.ledger.records(session.campaign_id))
    assert set(batches) == {(SEED_ARM, 0), *((arm, i) for arm in ARMS for i in (1, 2))}
    assert batches[SEED_ARM, 0] == 24
    assert all(0 < n <= 4 for (arm, _), n in batches.items() if arm != SEED_ARM)
    space = session.campaign.space
    for record in session.ledger.records(session.campaign_id):
        assert space.violations(record.candidate) == []
        assert record.outcome.status == "ok"
    loop = session.ledger.records(session.campaign_id, arms=["loop"])
    assert {r.candidate.origin.source for r in loop} == {"joint-flow"}
    assert {r.candidate.origin.guidance for r in loop} <= {1.0, 2.0}
    wanted = set(session.campaign.targets.properties)
    assert all(set(r.candidate.origin.details["requested"]) == wanted for r in loop)
    for index in (1, 2):
        kept = session.ledger.checkpoint(session.campaign_id, "loop", index, "generator")
        assert kept is not None
        assert Path(kept.path) == undisturbed.parent / "checkpoints" / f"{kept.sha256}.safetensors"
    session.ledger.close()


def test_a_session_may_be_dropped_between_any_two_stages(
    campaign: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Every stage has a session of its own; between the rounds the ledger is moved as well."""
    folder = tmp_path / "first"
    folder.mkdir()

    def fresh() -> Session:
        return open_session(campaign, folder / "ledger.db", overrides=OVERRIDES)

    def stage(name: str, *given: Any) -> Any:
        session = fresh()
        try:
            return getattr(session, name)(*given)
        finally:
            session.ledger.close()

    stage("prepare")
    for index in (0, 1, 2):
        for arm in ARMS if index else (SEED_ARM,):
            if index:
                stage("plan", arm, index)
            # The last chunk first: the order of the chunks decides nothing.
            for chunk in reversed(stage("chunks", arm, index)):
                stage("evaluate", arm, index, chunk)
            stage("finish_round", arm, index)
        if index == 1:
            folder = folder.rename(tmp_path / "second")
    assert stage("stop_reason") == "rounds: all 2 are done"
    same(undisturbed, folder / "ledger.db", campaign)


class Killed(BaseException):
    """As abrupt as Ctrl-C: no handler of ordinary errors may see it."""


def killer(session: Session, killed: list[tuple[int, str]]) -> Progress:
    """Ends the run at the first progress in a stage of a round that is not in ``killed`` yet."""

    def progress(stage: str, done: int, total: int, **figures: float) -> None:  # noqa: ARG001
        place = (session.next_round(), stage)
        if done and place not in killed:
            killed.append(place)
            raise Killed

    return progress


def test_a_run_may_be_killed_at_every_stage(
    campaign: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """The first time that anything reports progress, in every round, the run is killed there."""
    ledger = tmp_path / "ledger.db"
    killed: list[tuple[int, str]] = []
    for _ in range(60):
        session = open_session(campaign, ledger, overrides=OVERRIDES)

        session.progress = killer(session, killed)
        try:
            reason = session.run()
            break
        except Killed:
            continue
        finally:
            session.ledger.close()
    else:
        pytest.fail("the run did not come to its end")
    assert reason == "rounds: all 2 are done"
    arms = {f"simulate {arm}" for arm in ARMS}
    assert set(killed) >= {
        (i, s) for i in (1, 2) for s in {"surrogate", "joint flow", "propose"} | arms
    }
    assert (1, "autoencoder") in killed
    assert (1, "simulate seed") in killed
    same(undisturbed, ledger, campaign)
