"""What the interface shows, as typed values: the HTTP API returns them, the page reads them.

Numbers are in the unit that the property's name carries; a number that is missing is null.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["finished", "in progress", "waiting", "not finished"]


class _Model(BaseModel):
    # A NaN or an infinity has no place in JSON; both become null.
    model_config = ConfigDict(frozen=True, ser_json_inf_nan="null")


class Problem(_Model):
    """Any error: what came, what was expected, how to mend it."""

    error: str = Field(description="One line", examples=["unknown field 'densty'; did you …"])


class Health(_Model):
    status: Literal["ok"] = "ok"
    version: str = Field(description="Version of spinodal")
    campaigns: int = Field(description="Campaigns in the ledger")


class TargetInfo(_Model):
    """One target; a hit meets all of them at once."""

    property: str = Field(description="Property name with unit", examples=["youngs_modulus_GPa"])
    label: str = Field(description="For people", examples=["Young’s modulus"])
    unit: str = Field(description="As printed; empty when dimensionless", examples=["GPa"])
    kind: Literal["value", "range", "maximise", "minimise"]
    low: float | None = Field(description="Smallest value of a hit; null when open")
    high: float | None = Field(description="Largest value of a hit; null when open")
    text: str = Field(description="For people", examples=["190 ± 2"])


class CampaignInfo(_Model):
    name: str
    seed: int = Field(description="Seed from which every random step is drawn")
    created_at: str = Field(description="ISO 8601, UTC")
    started_at: str = Field(description="Newest start, ISO 8601, UTC")
    settings_hash: str = Field(description="Hash of the settings that decide the results")
    data_hash: str = Field(description="Hash of the images and compositions used")
    state: State
    finished: str | None = Field(description="Why it stopped; null while it has not")
    waiting: str | None = Field(
        default=None, description="What a run that stopped waits for; null when it does not"
    )
    last_entry_at: str | None = Field(description="Newest entry in the ledger, ISO 8601, UTC")
    round: int = Field(description="Newest planned round; 0 are the seed designs")
    rounds: int | None = Field(description="Rounds that the campaign file asks for")
    planned: int = Field(description="Designs planned, all arms and seeds")
    evaluations: int = Field(description="Designs evaluated, all arms and seeds")
    hits: int = Field(description="Distinct designs of the loop arm that meet every target")
    arms: list[str] = Field(description="Strategies that ran side by side, seeds included")
    targets: list[TargetInfo]


class RoundInfo(_Model):
    """One arm in one round, counted from the evaluations, so also while it still runs."""

    arm: str = Field(
        description="loop; random, mutation and genetic are its controls; seed is round 0"
    )
    round: int
    planned: int
    evaluated: int
    ok: int
    infeasible: int
    failed: int
    hits: int = Field(description="Evaluations of this round that meet every target")
    hits_total: int = Field(description="The same, up to and including this round")
    distinct_hits_total: int = Field(description="Distinct designs among them")
    hit_rate: float | None = Field(description="hits / evaluated; null before the first")
    best_distance: float | None = Field(
        description="Smallest distance to the targets so far, seeds included; 0 is a hit. "
        "Root of the summed squares of each target's miss in units of its tolerance"
    )
    summary: dict[str, Any] = Field(
        description="What the run noted when the round ended; empty while it runs"
    )


class CandidateRow(_Model):
    """One evaluation, or one planned design that waits for it."""

    id: str = Field(description="Hash of the design's content; its image is at …/image.png")
    campaign: str
    arm: str
    round: int
    position: int = Field(description="Place in the round's batch")
    status: Literal["ok", "infeasible", "failed", "pending"]
    hit: bool | None = Field(description="Meets every target; null before the evaluation")
    distance: float | None = Field(description="To the targets, in units of tolerance; 0: hit")
    source: str = Field(description="Generator or table it came from")
    guidance: float | None = Field(description="Guidance scale s: 0 unconditional, 1 conditional")
    simulator: str | None
    version: str | None = Field(description="Of the simulator")
    fidelity: str | None = Field(
        description="simulated, measured, or mixed where some of its values are measured"
    )
    reason: str | None = Field(description="Why it is not ok")
    design: dict[str, float | None] = Field(
        description="<phase>.fraction (area), x_<Element> (overall) and <phase>.<Element> "
        "(atomic fractions), process.<variable>"
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="Categorical variables of the design"
    )
    properties: dict[str, float | None] = Field(description="Found, in the unit of the name")
    uncertainty: dict[str, float | None] = Field(
        default_factory=dict, description="Standard uncertainty of measured properties"
    )
    requested: dict[str, float | None] = Field(description="Asked of the generator")
    predicted: dict[str, float | None] = Field(description="By the surrogate, before evaluation")
    predicted_std: dict[str, float | None] = Field(
        description="Its standard deviation, of the property itself"
    )


class CandidatePage(_Model):
    campaign: str
    filter: str
    total: int = Field(description="Rows that match the filter")
    limit: int
    offset: int
    units: dict[str, str] = Field(description="Property -> unit as printed")
    items: list[CandidateRow]


class PropertyInfo(_Model):
    property: str
    label: str
    unit: str
    value: float | None
    low: float | None = Field(description="Lower bound that holds for the image as given")
    high: float | None = Field(description="Upper bound that holds for the image as given")
    uncertainty: float | None = Field(
        default=None, description="Standard uncertainty (one standard deviation), where known"
    )
    fidelity: str | None = Field(default=None, description="simulated or measured")
    target: str = Field(description="For people; empty where there is none")
    met: bool | None = Field(description="Null without target or value")
    requested: float | None
    predicted: float | None
    predicted_std: float | None


class EvaluationInfo(_Model):
    """One time that a design was planned and, if status is not pending, evaluated."""

    campaign: str
    arm: str
    round: int
    position: int
    status: Literal["ok", "infeasible", "failed", "pending"]
    hit: bool | None
    distance: float | None
    source: str
    guidance: float | None
    simulator: str | None
    version: str | None
    fidelity: str | None
    reason: str | None
    planned_at: str
    evaluated_at: str | None
    properties: list[PropertyInfo]


class CandidateDetail(_Model):
    id: str
    phases: list[str]
    elements: list[str]
    image_shape: tuple[int, int] | None = Field(description="(h, w) in px; null without image")
    phase_fractions: dict[str, float] | None = Field(description="Area fractions, sum 1")
    phase_compositions: dict[str, dict[str, float]] | None = Field(
        description="Phase -> element -> atomic fraction, sum 1 per phase"
    )
    composition: dict[str, float] | None = Field(
        description="Overall atomic fractions by the lever rule"
    )
    process: dict[str, float] = Field(description="Process variables, unit in the name")
    labels: dict[str, str] = Field(
        default_factory=dict, description="Categorical variables, such as a processing route"
    )
    origin: dict[str, Any] = Field(description="Source, guidance and details it first came with")
    evaluations: list[EvaluationInfo]


class WantedInfo(_Model):
    """A property that is to be measured."""

    property: str = Field(examples=["hardness_GPa"])
    unit: str = Field(description="In which it is to be told; 1 when dimensionless")
    low: float | None = Field(description="Least value that is physically possible")
    high: float | None = Field(description="Greatest value that is physically possible")
    value: float | None = Field(description="As told; null while it is open")
    uncertainty: float | None = Field(description="Standard uncertainty as told")
    expected: float | None = Field(
        default=None, description="By the surrogate; null where the design was planned without one"
    )
    expected_std: float | None = Field(
        default=None, description="Standard deviation of what would be measured, about expected"
    )
    expected_noise: float | None = Field(
        default=None,
        description="The part of expected_std by which measurements scatter about the property; "
        "null: not on record, and expected_std is of the property alone",
    )


class WorkItem(_Model):
    """One design that is to be measured."""

    id: str
    rounds: list[str] = Field(description="Arm and round that wait for it", examples=[["loop 1"]])
    phase_compositions: dict[str, dict[str, float]] | None = Field(
        description="Phase -> element -> atomic fraction, sum 1 per phase"
    )
    process: dict[str, float] = Field(description="Process variables, unit in the name")
    labels: dict[str, str] = Field(
        default_factory=dict, description="Categorical variables, such as a processing route"
    )
    image: str | None = Field(description="Path of the phase labels as PNG; null without image")
    measure: list[WantedInfo]


class WorkList(_Model):
    campaign: str
    waiting: str | None = Field(description="What the campaign waits for")
    open: int = Field(description="Measurements that are asked for and not told")
    items: list[WorkItem]


class ResultIn(_Model):
    """One measured value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(description="Of the design, from the work list", max_length=64)
    property: str = Field(max_length=200)
    value: float
    unit: str | None = Field(default=None, description="The asked one, when given", max_length=50)
    uncertainty: float | None = Field(default=None, description="Standard uncertainty")


class ResultsIn(_Model):
    model_config = ConfigDict(extra="forbid", frozen=True)

    results: list[ResultIn] = Field(min_length=1, max_length=100_000)
    replace: bool = Field(default=False, description="Let them take the place of earlier ones")


class ToldInfo(_Model):
    """What became of results that were sent in; all of them are kept, or none."""

    campaign: str
    new: int
    same: int = Field(description="Told before alike, so passed over")
    replaced: int
    scored: int = Field(
        description="Of those replaced: scored before with the earlier value, which stays on record"
    )
    open: int = Field(description="Measurements that are still asked for")
    text: str = Field(description="The same for people")
