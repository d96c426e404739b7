"""campaign.toml -> frozen settings. Unknown keys fail with the nearest known key."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from loop.errors import InvalidCampaignError, InvalidInputError, unknown_name
from loop.formula import check_symbol
from loop.space import DesignSpace
from loop.targets import Targets, parse_target

Guidance = Annotated[float, Field(ge=0.0, le=100.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CampaignSection(_Section):
    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    seed: int = Field(default=0, ge=0, lt=2**63)  # what a database holds
    description: str = ""


def _by_phase(given: Any) -> Any:
    """A list of constraints, which names no phase, under the phase ""."""
    return given if isinstance(given, dict) else {"": given}


class SpaceSection(_Section):
    """``constraints``: a list, kept under the phase "", or a table phase -> list."""

    phases: tuple[str, ...]
    elements: tuple[str, ...] = ()
    bounds: dict[str, dict[str, tuple[float, float]]] = Field(default_factory=dict)
    process: dict[str, tuple[float, float]] = Field(default_factory=dict)
    labels: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    constraints: Annotated[dict[str, tuple[str, ...]], BeforeValidator(_by_phase)] = Field(
        default_factory=dict
    )


class ImagesSection(_Section):
    """Label images: ``labels[v]`` names the phase of pixel value v."""

    folder: str
    labels: tuple[str, ...] = Field(min_length=1)
    patch: int = Field(default=64, ge=16, le=512)
    downsample: int = Field(default=1, ge=1)
    index: str | None = None  # CSV with columns name, split (train, val, test)
    augment: bool = True


class CompositionsSection(_Section):
    """``file``: a CSV, columns PHASE:ELEMENT, atomic fractions. Or compositions that are drawn.

    ``sample``: "sobol" or "uniform", from all that the space allows; ``n`` of them, by ``seed``.
    """

    file: str | None = None
    sample: Literal["sobol", "uniform"] | None = None
    n: int = Field(default=1000, ge=16, le=100_000)
    seed: int = Field(default=0, ge=0, lt=2**63)


class LibrarySection(_Section):
    """Designs that a simulator makes at the first run, in place of images and compositions.

    ``source``: its registered name. ``patch``: side of the images in pixels. ``seed``: of all that
    is drawn; campaigns of other seeds may share the library.
    """

    source: str = Field(min_length=1)
    patch: int = Field(default=64, ge=16, le=512)
    seed: int = Field(default=0, ge=0, lt=2**63)
    augment: bool = True
    settings: dict[str, Any] = Field(default_factory=dict)


class SimulatorsSection(_Section):
    """``use``: names of registered simulators; a table per name holds its settings.

    ``timeout_s``: those that run in a process of their own, with so many seconds a candidate.
    ``wiring``: simulator -> input -> output of another one that it is given.
    """

    use: tuple[str, ...] = Field(min_length=1)
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    timeout_s: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(
        default_factory=dict
    )
    wiring: dict[str, dict[str, str]] = Field(default_factory=dict)


class GeneratorSection(_Section):
    name: str = "joint-flow"
    preset: Literal["tiny", "cpu", "gpu"] = "cpu"
    settings: dict[str, Any] = Field(default_factory=dict)


class LoopSection(_Section):
    rounds: int = Field(default=5, ge=1)
    batch: int = Field(default=60, ge=1)
    seeds: int = Field(default=400, ge=8)  # scored library designs before the first round
    budget: int | None = Field(default=None, ge=1)  # evaluations after the seeds, per arm
    library: int = Field(default=8000, ge=16)  # unscored designs that carry predictions
    pool: int = Field(default=1200, ge=1)  # proposals a round from which the batch is picked
    guidance: tuple[Guidance, ...] = Field(default=(1.0, 2.0), min_length=1)
    control_arms: tuple[Literal["random", "mutation", "genetic", "bayesian"], ...] = (
        "random",
        "mutation",
    )
    diversity: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    stop_hits: int | None = Field(default=None, ge=1)
    stagnation_rounds: int | None = Field(default=None, ge=1)
    chunk: int = Field(default=20, ge=1)  # candidates a simulation task evaluates together


class ComputeSection(_Section):
    device: str = "cpu"  # "cpu", "cuda", "cuda:1"
    threads: int = Field(default=2, ge=1)


class _File(_Section):
    campaign: CampaignSection
    space: SpaceSection
    images: ImagesSection | None = None
    compositions: CompositionsSection | None = None
    library: LibrarySection | None = None
    targets: dict[str, dict[str, Any]]
    simulators: SimulatorsSection
    generator: GeneratorSection = GeneratorSection()
    loop: LoopSection = LoopSection()
    compute: ComputeSection = ComputeSection()


@dataclass(frozen=True, slots=True)
class Campaign:
    """A validated campaign file. ``folder`` is where relative paths in it start."""

    folder: Path
    info: CampaignSection
    space: DesignSpace
    images: ImagesSection | None
    compositions: CompositionsSection | None
    targets: Targets
    simulators: SimulatorsSection
    generator: GeneratorSection
    loop: LoopSection
    compute: ComputeSection
    settings: Mapping[str, Any] = field(repr=False)
    library: LibrarySection | None = None

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def seed(self) -> int:
        return self.info.seed

    @property
    def starts_from_known(self) -> bool:
        """Whether it starts from measured designs: a simulator's ``otherwise = "ask"``."""
        return any(s.get("otherwise") == "ask" for s in self.simulators.settings.values())

    def settings_json(self) -> str:
        """The settings as canonical JSON, as kept in the ledger."""
        return json.dumps(self.settings, sort_keys=True)

    def settings_hash(self) -> str:
        """Hash of what decides the results; where it runs and how long are left out."""
        kept = {k: v for k, v in self.settings.items() if k != "compute"}
        length = ("rounds", "budget", "stop_hits", "stagnation_rounds")
        kept["loop"] = {k: v for k, v in kept["loop"].items() if k not in length}
        if not kept["simulators"]["wiring"]:  # ledgers from before there was any go on
            kept["simulators"] = {k: v for k, v in kept["simulators"].items() if k != "wiring"}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _known_keys(path: tuple[int | str, ...]) -> list[str]:
    model: Any = _File
    for part in path:
        annotation = model.model_fields[str(part)].annotation
        model = next(
            a
            for a in (annotation, *getattr(annotation, "__args__", ()))
            if isinstance(a, type) and issubclass(a, BaseModel)
        )
    return list(model.model_fields)


# In words of the file's format rather than of the language that reads it.
_PLAIN = {
    "tuple_type": "a list in square brackets",
    "too_short": "at least one entry",
    "too_long": "[low, high]",
    "dict_type": "a table",
    "model_type": "a table",
}


def _explain(path: Path, error: ValidationError) -> str:
    first = error.errors()[0]
    kind, loc = first["type"], first["loc"]
    if kind == "missing" and isinstance(loc[-1], int):  # one of the two numbers of a range
        kind, loc = "too_long", loc[:-1]
    where = ".".join(str(part) for part in loc if part != "")
    if kind == "extra_forbidden":
        *parents, key = loc
        section = f"[{'.'.join(map(str, parents))}]: " if parents else ""
        return f"{path}: {section}" + unknown_name("key", str(key), _known_keys(tuple(parents)))
    if kind == "missing":
        return f"{path}: key {where} is missing; add it"
    if kind in _PLAIN:
        return f"{path}: {where} is {first['input']!r}; expected {_PLAIN[kind]}"
    return f"{path}: {where} is {first['input']!r}: {first['msg'][0].lower()}{first['msg'][1:]}"


def load_campaign(path: Path | str, **overrides: Mapping[str, Any]) -> Campaign:
    """Read and validate a campaign file (or the campaign.toml inside a folder).

    ``overrides``: section -> keys that replace those of the file (``loop={"rounds": 2}``).
    Raises InvalidInputError when it cannot be read, InvalidCampaignError when it cannot be used.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "campaign.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidInputError(
            f"no campaign file at {path}; give a campaign.toml or its folder "
            "(`spinodal new DIR` writes one)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            f"cannot read {path}: {error}; expected a UTF-8 text file"
        ) from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidCampaignError(f"{path} is not valid TOML: {error}") from None
    for section, keys in overrides.items():
        given = table.get(section, {})
        if isinstance(given, dict):  # what is no table is refused below
            table[section] = {**given, **keys}
    try:
        file = _File.model_validate(table)
    except ValidationError as error:
        raise InvalidCampaignError(_explain(path, error)) from None
    return _assemble(path, file)


def _assemble(path: Path, file: _File) -> Campaign:
    if not file.targets:
        raise InvalidCampaignError(f"{path}: no targets; add at least one [targets.PROPERTY] table")
    named = [("settings", name) for name in file.simulators.settings]
    named += [("timeout_s", name) for name in file.simulators.timeout_s]
    named += [("wiring", name) for name in file.simulators.wiring]
    for key, name in named:
        if name not in file.simulators.use:
            raise InvalidCampaignError(
                f"{path}: simulators.{key}: "
                + unknown_name("simulator", name, file.simulators.use)
                + " (simulators.use names those that run)"
            )
    for name in file.simulators.use:
        if file.simulators.use.count(name) > 1:
            raise InvalidCampaignError(
                f"{path}: simulators.use names {name!r} more than once; name each simulator once"
            )
    if file.library and (file.images or file.compositions):
        other = "images" if file.images else "compositions"
        raise InvalidCampaignError(
            f"{path}: [library] makes what [{other}] would bring; keep one of the two"
        )
    _check_compositions(path, file.compositions)
    constraints, by_phase = _constraints(file.space)
    pictured = file.images or file.library
    image_shape = (pictured.patch, pictured.patch) if pictured else None
    try:
        for element in file.space.elements:
            check_symbol(element, "space.elements")
        space = DesignSpace(
            phases=file.space.phases,
            elements=file.space.elements,
            image_shape=image_shape,
            bounds=file.space.bounds,
            process=file.space.process,
            labels=file.space.labels,
            constraints=constraints,
            phase_constraints=by_phase,
        )
        targets = Targets(tuple(parse_target(k, v) for k, v in file.targets.items()))
    except (InvalidCampaignError, InvalidInputError) as error:
        raise InvalidCampaignError(f"{path}: {error}") from None
    if file.images:
        for name in file.images.labels:
            if name not in file.space.phases:
                raise InvalidCampaignError(
                    f"{path}: images.labels: " + unknown_name("phase", name, file.space.phases)
                )
    if file.library and file.space.labels:
        raise InvalidCampaignError(
            f"{path}: space.labels names {', '.join(file.space.labels)}, but [library] makes "
            "designs without labels; leave [space.labels] or [library] out"
        )
    if file.library and not file.space.elements:
        raise InvalidCampaignError(
            f"{path}: space has no elements, but [library] makes designs with compositions; list "
            "them in space.elements"
        )
    if not file.library and bool(file.space.elements) != (file.compositions is not None):
        raise InvalidCampaignError(
            f"{path}: space.elements and [compositions] go together; give both or neither "
            '(without a table: [compositions] with sample = "sobol")'
        )
    settings = file.model_dump(mode="json")
    if file.library is None:  # campaigns without one keep the hash they had
        del settings["library"]
    if not file.space.labels:
        del settings["space"]["labels"]
    settings["space"]["constraints"] = list(constraints) or {
        k: list(v) for k, v in by_phase.items()
    }
    if not space.constrained:
        del settings["space"]["constraints"]
    if file.compositions:
        drawn = file.compositions.file is None
        for key in ("file",) if drawn else ("sample", "n", "seed"):
            del settings["compositions"][key]
    return Campaign(
        folder=path.parent.resolve(),
        info=file.campaign,
        space=space,
        images=file.images,
        compositions=file.compositions,
        targets=targets,
        simulators=file.simulators,
        generator=file.generator,
        loop=file.loop,
        compute=file.compute,
        settings=settings,
        library=file.library,
    )


def _constraints(section: SpaceSection) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Constraints that name no phase, and those of each phase; of one phase all are the former."""
    by_phase = {phase: texts for phase, texts in section.constraints.items() if phase}
    listed = section.constraints.get("", ())
    if len(section.phases) == 1 and set(by_phase) <= set(section.phases):
        return (*listed, *(text for texts in by_phase.values() for text in texts)), {}
    return listed, by_phase


def _check_compositions(path: Path, section: CompositionsSection | None) -> None:
    """Raises InvalidCampaignError for compositions that are neither read nor drawn, or both."""
    if section is None:
        return
    if (section.file is None) == (section.sample is None):
        raise InvalidCampaignError(
            f"{path}: [compositions] has "
            f"{'neither file nor' if section.file is None else 'both file and'} sample; give file, "
            'a CSV of compositions, or sample = "sobol" (or "uniform"), which '
            "draws n of them from all that the space allows"
        )
    more = sorted(section.model_fields_set & {"n", "seed"})
    if section.file is not None and more:
        raise InvalidCampaignError(
            f"{path}: compositions.{more[0]} goes with compositions.sample, and this campaign "
            "reads a file; leave one of the two out"
        )
