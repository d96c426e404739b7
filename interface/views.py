"""Ledger frames turned into what page, API and plots show; each figure is computed here once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pandas as pd

from interface.labels import split_property, target_text
from interface.models import CampaignInfo, RoundInfo, State, TargetInfo
from loop.claims import is_running
from loop.errors import InvalidInputError, unknown_name
from loop.ledger import Ledger
from loop.targets import Maximise, Range, Target, Targets, Value, parse_target

ARM_ORDER = ("seed", "loop", "random", "mutation", "genetic", "bayesian")
ROUND_COLUMNS = ("id", "arm", "round", "status", "hit", "distance")
Against = Literal["requested", "predicted"]


def arm_rank(arm: str) -> tuple[int, str]:
    """Sorting key: seeds, the loop, its controls, then others by name."""
    return (ARM_ORDER.index(arm) if arm in ARM_ORDER else len(ARM_ORDER), arm)


def campaign_targets(settings: Mapping[str, Any]) -> Targets:
    """The targets of a campaign from its settings as kept in the ledger."""
    return Targets(tuple(parse_target(k, v) for k, v in settings["targets"].items()))


def target_info(target: Target) -> TargetInfo:
    """One target for people and machines."""
    label, unit = split_property(target.name)
    kinds: Mapping[type[Any], Any] = {Value: "value", Range: "range", Maximise: "maximise"}
    return TargetInfo(
        property=target.name,
        label=label,
        unit=unit,
        kind=kinds.get(type(target), "minimise"),
        low=finite(target.low),
        high=finite(target.high),
        text=target_text(target),
    )


def finite(value: Any) -> float | None:
    """A number as JSON allows it: None for missing, NaN and infinite ones."""
    if value is None or value is pd.NA:
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def text_or_none(value: Any) -> str | None:
    """Text of a frame: None where it is missing or empty."""
    return value if isinstance(value, str) and value else None


def campaign_infos(ledger: Ledger, names: Sequence[str] | None = None) -> list[CampaignInfo]:
    """Every campaign (or those named), the most recently started first."""
    frame = ledger.campaigns().sort_values(["started_at", "id"], ascending=False)
    if names is not None:
        frame = frame[frame["name"].isin(names)]
    return [_campaign_info(ledger, row) for row in frame.to_dict(orient="records")]


def campaign_info(ledger: Ledger, name: str | None = None) -> CampaignInfo:
    """One campaign; the most recently started when no name is given. Raises LedgerError."""
    number = ledger.campaign_id(name)
    frame = ledger.campaigns()
    return _campaign_info(ledger, frame[frame["id"] == number].to_dict(orient="records")[0])


def _campaign_info(ledger: Ledger, row: Mapping[Any, Any]) -> CampaignInfo:
    number = int(row["id"])
    settings = ledger.campaign_settings(number)
    frame = ledger.evaluations(
        number, columns=("id", "arm", "round", "hit", "planned_at", "evaluated_at")
    )
    stamps = [s for c in ("planned_at", "evaluated_at") for s in frame[c] if isinstance(s, str)]
    last = max(stamps, default=None)
    reason = text_or_none(row["finished"])
    finished = arm_rounds(ledger.rounds(number))
    of_loop = frame[(frame["arm"] == "loop") & frame["hit"].fillna(False).astype(bool)]
    return CampaignInfo(
        name=row["name"],
        seed=int(row["seed"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        settings_hash=row["settings_hash"],
        data_hash=row["data_hash"],
        state=campaign_state(ledger, number, reason),
        finished=reason,
        waiting=text_or_none(row["waiting"]),
        last_entry_at=last,
        round=max([*frame["round"].tolist(), *(r for _, r in finished)], default=0),
        rounds=settings.get("loop", {}).get("rounds"),
        planned=int(row["planned"]),
        evaluations=int(row["evaluations"]),
        hits=int(of_loop["id"].nunique()),
        arms=sorted({*frame["arm"], *(arm for arm, _ in finished)}, key=arm_rank),
        targets=[target_info(t) for t in campaign_targets(settings)],
    )


def campaign_state(ledger: Ledger, campaign: int, reason: str | None) -> State:
    """Finished where there is a ``reason``; otherwise in progress while a run holds the claim.

    Waiting where the last run stopped because it needs measurements.
    """
    if reason is not None:
        return "finished"
    if is_running(ledger, campaign):
        return "in progress"
    return "not finished" if ledger.waiting(campaign) is None else "waiting"


def _age(stamp: str) -> float:
    """Seconds since an ISO 8601 time."""
    return (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()


def state_text(campaign: CampaignInfo) -> str:
    """The state in words, with how long ago the newest entry was made."""
    if campaign.state == "finished":
        return f"finished · {campaign.finished}"
    newest = "nothing planned yet"
    if campaign.last_entry_at is not None:
        seconds = max(0.0, _age(campaign.last_entry_at))
        ago = next(
            f"{seconds / unit:.0f} {name}"
            for unit, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
            if seconds >= unit or unit == 1
        )
        newest = f"newest entry {ago} ago"
    if campaign.state == "in progress":
        return f"in progress, {newest}"
    if campaign.state == "waiting":
        return f"{campaign.waiting}, {newest}"
    return f"not running, {newest}; `spinodal resume` takes it up"


def round_table(
    evaluations: pd.DataFrame, finished: Iterable[tuple[str, int]] = ()
) -> pd.DataFrame:
    """One row per arm and round from evaluations (columns ROUND_COLUMNS), seeds first.

    ``finished``: arms and rounds that are done, of which some may have had nothing to evaluate.

    Columns: arm, round, planned, evaluated, ok, infeasible, failed, hits, hits_total,
    distinct_hits_total, hit_rate, best_distance (so far, seeds included; NaN without any).
    """
    rows: list[dict[str, Any]] = []
    of_seeds = evaluations.loc[evaluations["arm"] == "seed", "distance"].min()
    known = {*arm_rounds(evaluations), *finished}
    for arm in sorted({arm for arm, _ in known}, key=arm_rank):
        best, total, distinct = (math.nan if arm == "seed" else of_seeds), 0, set[str]()
        of_arm = evaluations[evaluations["arm"] == arm]
        for round_ in sorted(r for a, r in known if a == arm):
            batch = of_arm[of_arm["round"] == round_]
            hit = batch["hit"].fillna(False).to_numpy(dtype=bool)
            status = batch["status"].value_counts()
            done = len(batch) - int(status.get("pending", 0))
            total += int(hit.sum())
            distinct |= set(batch.loc[hit, "id"])
            best = float(np.fmin(best, batch["distance"].min()))
            rows.append(
                {
                    "arm": arm,
                    "round": round_,
                    "planned": len(batch),
                    "evaluated": done,
                    **{k: int(status.get(k, 0)) for k in ("ok", "infeasible", "failed")},
                    "hits": int(hit.sum()),
                    "hits_total": total,
                    "distinct_hits_total": len(distinct),
                    "hit_rate": hit.sum() / done if done else math.nan,
                    "best_distance": best,
                }
            )
    columns = [*RoundInfo.model_fields][:-1]
    return pd.DataFrame(rows, columns=columns)


def arm_series(rounds: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Per arm the rows to draw, round 0 first: what all arms had before they parted.

    At round 0 an arm has no hits of its own, and the hit rate and best distance of the seeds.
    """
    seed = rounds[rounds["arm"] == "seed"].assign(hits_total=0, distinct_hits_total=0)
    arms = [arm for arm in dict.fromkeys(rounds["arm"]) if arm != "seed"]
    return {arm: pd.concat([seed, rounds[rounds["arm"] == arm]]) for arm in arms}


def arm_rounds(frame: pd.DataFrame) -> list[tuple[str, int]]:
    """(arm, round) of each row of a frame with these columns."""
    return [(str(a), int(r)) for a, r in zip(frame["arm"], frame["round"], strict=True)]


def round_infos(ledger: Ledger, campaign: int) -> list[RoundInfo]:
    """The round table with what the run itself noted about each finished round."""
    noted = ledger.rounds(campaign)
    table = round_table(ledger.evaluations(campaign, columns=ROUND_COLUMNS), arm_rounds(noted))
    notes = {
        (row["arm"], row["round"]): {
            str(k): v
            for k, v in row.items()
            if k not in ("arm", "round") and not (isinstance(v, float) and math.isnan(v))
        }
        for row in noted.to_dict(orient="records")
    }
    return [
        RoundInfo.model_validate(
            {str(k): (finite(v) if isinstance(v, float) else v) for k, v in row.items()}
            | {"summary": notes.get((row["arm"], row["round"]), {})}
        )
        for row in table.to_dict(orient="records")
    ]


def requested_simulated(
    evaluations: pd.DataFrame, property_: str, against: Against = "requested"
) -> pd.DataFrame:
    """Rows that have both numbers: id, arm, round, guidance, x (asked or predicted), y (found).

    Raises InvalidInputError for a property that is not a column.
    """
    for name in (property_, f"{against}_{property_}"):
        if name not in evaluations:
            raise InvalidInputError(unknown_name("property", name, map(str, evaluations.columns)))
    frame = evaluations[["id", "arm", "round", "guidance"]].assign(
        x=evaluations[f"{against}_{property_}"], y=evaluations[property_]
    )
    return frame[np.isfinite(frame["x"]) & np.isfinite(frame["y"])].reset_index(drop=True)


def target_shares(evaluations: pd.DataFrame, targets: Targets) -> dict[str, dict[str, float]]:
    """Property -> arm -> share of the arm's scored designs whose value meets that target.

    Maximise and minimise without a limit have no share and are left out, as are arms without
    scored designs.
    """
    scored = evaluations[evaluations["status"] == "ok"]
    shares: dict[str, dict[str, float]] = {}
    for target in targets:
        if target.name not in scored or not math.isfinite(max(target.low, -target.high)):
            continue
        met = scored[target.name].between(target.low, target.high)
        shares[target.name] = {
            str(k): float(v) for k, v in met.groupby(scored["arm"]).mean().items()
        }
    return shares
