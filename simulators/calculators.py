"""Interatomic potentials by name: any ASE calculator, with what is known of its limits.

Names, in the order in which they are looked up:

emt      effective medium theory as ASE has it (K. W. Jacobsen, P. Stoltze, J. K. Norskov, Surf.
         Sci. 366, 394, 1996), for Al, Ni, Cu, Pd, Ag, Pt, Au; see ``EMT_WRONG_SIGNS``.
chgnet   the universal potential of B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023), pre-trained;
         needs the extra ``mlip``. Settings: ``model_name`` (of the package; default "0.3.0").
others   of another package, by an entry point in the group ``spinodal.calculators``:

             [project.entry-points."spinodal.calculators"]
             my-potential = "my_package.my_module:create"

         where ``create(*, settings, device)`` returns an ASE calculator with energy, forces and
         stress. It may have the attribute ``supported_elements`` (symbols), which are then kept.
ASE's    any name that ASE knows (``eam``, ``vasp``, ...), made with the settings as keywords.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from io import StringIO
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from loop.errors import InvalidInputError, SpinodalError, unknown_name
from loop.formula import SYMBOLS

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

GROUP = "spinodal.calculators"
EMT_ELEMENTS = frozenset(("Al", "Ni", "Cu", "Pd", "Ag", "Pt", "Au"))
# Nobody has trained these: their embeddings are still as they were initialised.
CHGNET_ELEMENTS = frozenset(SYMBOLS[:94]) - {"Po", "At", "Rn", "Fr", "Ra"}
CHGNET_MODEL = "0.3.0"

CHGNET_SOFT = (
    "chgnet is systematically too soft (B. Deng et al., npj Comput. Mater. 11, 9, 2025): it has "
    "C44 = 59 GPa for Ni3Al, measured is about 125"
)

_ORDERED = "the alloys form ordered compounds with negative enthalpies"
# Pairs whose enthalpy of mixing in random solid solutions EMT has positive (measured with the
# program at 50 %, kJ/mol) where experiment has it negative: R. Hultgren et al., Selected Values of
# the Thermodynamic Properties of Binary Alloys, 1973; F. R. de Boer et al., Cohesion in Metals,
# 1988, for Al-Pd.
EMT_WRONG_SIGNS: Mapping[frozenset[str], str] = {
    frozenset(("Al", "Ni")): f"about +18; {_ORDERED}",
    frozenset(("Al", "Cu")): f"about +10; {_ORDERED}",
    frozenset(("Al", "Pd")): f"about +1; {_ORDERED}",
    frozenset(("Cu", "Au")): f"about +1.5; {_ORDERED}",
    frozenset(("Pd", "Ag")): "about +2.8; the solid solution has a negative enthalpy",
    frozenset(("Pd", "Au")): "about +0.8; the solid solution has a negative enthalpy",
}


@dataclass(frozen=True, slots=True)
class Potential:
    """An ASE calculator and what is known of it.

    ``version``: of the code and the model; ``settings``: what it was made with; ``elements``: those
    it covers, None where it does not say; ``wrong_signs``: pairs of elements whose enthalpy of
    mixing it gets wrong in sign, with a remark; ``elastic_caution``: what is to be said with its
    elastic constants; ``quiet``: False where it prints or warns on its own.
    """

    name: str
    version: str
    calculator: Calculator = field(repr=False, compare=False)
    settings: Mapping[str, Any] = field(default_factory=dict)
    elements: frozenset[str] | None = None
    wrong_signs: Mapping[frozenset[str], str] = field(default_factory=dict)
    elastic_caution: str = ""
    quiet: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", MappingProxyType(dict(self.settings)))

    def fresh(self) -> Calculator:
        """The calculator without a memory: a result must not depend on what was asked before.

        ASE's neighbour lists are kept until atoms have moved by a skin, which shows in the energy.
        """
        reset = getattr(self.calculator, "reset", None)
        if reset is not None:
            reset()
        return self.calculator

    def identity(self) -> dict[str, Any]:
        """What decides its energies, as JSON; files named in the settings by their content."""
        return {
            "name": self.name,
            "version": self.version,
            "settings": {key: _content(value) for key, value in sorted(self.settings.items())},
        }

    def check_elements(self, symbols: Iterable[str]) -> None:
        """InvalidInputError names the elements that it does not cover."""
        if self.elements is None:
            return
        missing = sorted(set(symbols) - self.elements)
        if missing:
            known = (
                ", ".join(sorted(self.elements))
                if len(self.elements) <= 20
                else f"{len(self.elements)} others"
            )
            raise InvalidInputError(
                f"calculator {self.name!r} has no parameters for {', '.join(missing)}; it covers "
                f"{known}; leave the element out or take another calculator"
            )

    def misjudged(self, symbols: Iterable[str]) -> list[tuple[str, str]]:
        """Pairs among the symbols whose enthalpy of mixing it has with the wrong sign, sorted."""
        pairs = combinations(sorted(set(symbols)), 2)
        return [pair for pair in pairs if frozenset(pair) in self.wrong_signs]

    def cautions(self, symbols: Iterable[str]) -> list[str]:
        """One line for everything that speaks against using it for these elements."""
        found = [
            f"{self.name} has the wrong sign of the enthalpy of mixing of {a}-{b} "
            f"({self.wrong_signs[frozenset((a, b))]})"
            for a, b in self.misjudged(symbols)
        ]
        if self.elements is None:
            found.append(f"calculator {self.name} does not say which elements it covers")
        return found

    @contextmanager
    def hushed(self) -> Iterator[None]:
        """Nothing that the calculator prints or warns of reaches the program's own output."""
        if self.quiet:
            yield
            return
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield


def _content(value: Any) -> Any:
    if isinstance(value, (str, Path)):
        try:
            if Path(value).is_file():
                return "sha256:" + hashlib.sha256(Path(value).read_bytes()).hexdigest()
        except (OSError, ValueError):  # a text that cannot be a path
            pass
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)


def available() -> list[str]:
    """Names that ``load_potential`` knows, sorted; ASE's own need their programs or files."""
    from ase.calculators.calculator import names

    return sorted({*_BUILT_IN, *_third_party(), *names})


def load_potential(
    name: str, settings: Mapping[str, Any] | None = None, *, device: str = "cpu"
) -> Potential:
    """The potential ``name``, made with ``settings`` on a torch device (where it uses one).

    Raises InvalidInputError for an unknown name (with the nearest known one), a package that is not
    installed (naming the extra that brings it), or settings that the calculator refuses.
    """
    settings = dict(settings or {})
    if name in _BUILT_IN:
        return _BUILT_IN[name](settings, device)
    third_party = _third_party()
    if name in third_party:
        return _from_entry_point(third_party[name], settings, device)
    known = available()
    if name not in known:
        raise InvalidInputError(unknown_name("calculator", name, known))
    return _from_ase(name, settings)


def _third_party() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def _ase_version() -> str:
    return f"ase {version('ase')}"


def _known_settings(name: str, settings: Mapping[str, Any], known: Iterable[str]) -> None:
    for key in settings:
        if key not in known:
            raise InvalidInputError(f"calculator {name!r}: " + unknown_name("setting", key, known))


def _emt(settings: Mapping[str, Any], device: str) -> Potential:  # noqa: ARG001
    from ase.calculators.emt import EMT

    _known_settings("emt", settings, ())
    return Potential(
        "emt", _ase_version(), EMT(), elements=EMT_ELEMENTS, wrong_signs=EMT_WRONG_SIGNS
    )


def _chgnet(settings: Mapping[str, Any], device: str) -> Potential:
    _known_settings("chgnet", settings, ("model_name",))
    model_name = settings.get("model_name", CHGNET_MODEL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            load = import_module("chgnet.model").CHGNet.load
            make = import_module("chgnet.model.dynamics").CHGNetCalculator
            model = load(model_name=model_name, use_device=device, verbose=False)
            calculator = make(model, use_device=device, on_isolated_atoms="error")
            installed = version("chgnet")
    except (ImportError, PackageNotFoundError) as error:
        raise InvalidInputError(
            f"calculator 'chgnet' is not installed ({error}); install the extra that brings it: "
            "pip install 'spinodal[mlip]'"
        ) from None
    except ValueError as error:
        raise InvalidInputError(
            f"calculator 'chgnet': model_name {model_name!r} cannot be loaded: {error}"
        ) from None
    return Potential(
        "chgnet",
        f"chgnet {installed}, model {model_name}",
        calculator,
        settings=settings,
        elements=CHGNET_ELEMENTS,
        elastic_caution=CHGNET_SOFT,
        quiet=False,
    )


_BUILT_IN: Mapping[str, Callable[[Mapping[str, Any], str], Potential]] = {
    "emt": _emt,
    "chgnet": _chgnet,
}


def _from_entry_point(entry: EntryPoint, settings: Mapping[str, Any], device: str) -> Potential:
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            calculator = entry.load()(settings=dict(settings), device=device)
            elements = getattr(calculator, "supported_elements", None)
    except SpinodalError:
        raise
    except Exception as error:  # another package can fail in any way
        raise InvalidInputError(
            f"calculator {entry.name!r} ({entry.value}) cannot be made: {error}; mend "
            "calculator_settings or reinstall the package that brings it"
        ) from error
    package = "unknown" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"
    return Potential(
        entry.name,
        str(getattr(calculator, "version", None) or package),
        calculator,
        settings=settings,
        elements=None if elements is None else frozenset(elements),
        quiet=False,
    )


def _from_ase(name: str, settings: Mapping[str, Any]) -> Potential:
    from ase.calculators.calculator import get_calculator_class

    try:
        calculator = get_calculator_class(name)(**settings)
    except Exception as error:  # missing programs, files and keywords, each in its own way
        raise InvalidInputError(
            f"ASE's calculator {name!r} cannot be made with {dict(settings)}: "
            f"{type(error).__name__}: {error}; mend calculator_settings"
        ) from error
    elements = getattr(calculator, "elements", None)  # eam reads them from its file
    return Potential(
        name,
        _ase_version(),
        calculator,
        settings=settings,
        elements=frozenset(map(str, elements)) if isinstance(elements, (list, tuple)) else None,
        quiet=False,
    )
