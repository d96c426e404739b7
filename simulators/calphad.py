"""Equilibria and tie-lines from a thermodynamic database (TDB), with pycalphad.

pycalphad is an extra, ``pip install 'spinodal[calphad]'``, and is imported when a database is
opened. An ordered phase whose sublattices hold the same is its disordered state: in a database
where L1_2 is described as FCC_A1 plus ordering, the disordered solution comes out of the ordered
phase's model, and is named FCC_A1 here.

Sources: R. Otis and Z.-K. Liu, J. Open Res. Softw. 5, 1 (2017) (pycalphad); N. Saunders and
A. P. Miodownik, CALPHAD: A Comprehensive Guide, 1998, chapter 5 (order described as a part).
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError, unknown_name
from simulators.solution import GAS_CONSTANT
from simulators.thermodynamics import Equilibrium

FloatArray = NDArray[np.float64]

PRESSURE = 101_325.0  # Pa
VACANCY = "VA"
ORDERED = 1e-3  # least difference of a fraction between the sublattices of an ordered state
SAME_PHASE = 1e-4  # sets of one phase that differ by less in every fraction are one
CERTIFIED = 1e-7  # largest departure from the tangent plane, in R T, and from the mass balance
SUM_TOLERANCE = 1e-9


def _pycalphad() -> Any:
    try:
        return import_module("pycalphad")
    except ImportError as error:
        raise InvalidInputError(
            f"equilibria from a TDB need pycalphad ({error}); install the extra: "
            "pip install 'spinodal[calphad]'"
        ) from None


class Database:
    """A TDB file with the elements and phases that take part.

    ``elements``: symbols, in the order of the compositions. ``phases``: names as in the file,
    default all that these elements can form. ``sha256``: of the file's content.
    Raises InvalidInputError without pycalphad, for a file that cannot be read as a TDB, and for
    elements or phases that it does not have.
    """

    def __init__(
        self, path: str | Path, elements: Sequence[str], phases: Sequence[str] | None = None
    ) -> None:
        self._library = _pycalphad()
        self.path = Path(path)
        self.elements = tuple(elements)
        self._content, self.sha256 = self._read()
        self._check_elements()
        formable = self._formable(self.elements, sorted(self._content.phases))
        self.phases = formable if phases is None else tuple(phases)
        self._check_phases(self.phases)
        # Compiled energies by phases and elements: building them takes most of a calculation.
        self._workspaces: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}

    def _read(self) -> tuple[Any, str]:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise InvalidInputError(
                f"thermodynamic database {self.path} cannot be read: {error.strerror or error}; "
                "give the path of a TDB file"
            ) from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the parser, about rare keywords
                # TDB files are ASCII; older ones carry names in a code page in their comments.
                content = self._library.Database.from_string(data.decode("latin-1"), fmt="tdb")
        except Exception as error:  # the parser fails in many ways
            reason = " ".join(str(error).split())[:100]
            raise InvalidInputError(
                f"{self.path} is not a TDB file that pycalphad can read: {reason}"
            ) from None
        return content, hashlib.sha256(data).hexdigest()

    def _check_elements(self) -> None:
        known = [e.capitalize() for e in self._content.elements if e.isalpha() and e != VACANCY]
        if not known or not self._content.phases:
            raise InvalidInputError(f"{self.path} defines no elements or no phases; give a TDB")
        for element in self.elements:
            if element.capitalize() not in known:
                raise InvalidInputError(f"{self.path}: " + unknown_name("element", element, known))
        if len(set(self.elements)) != len(self.elements) or not self.elements:
            raise InvalidInputError(
                f"elements {', '.join(self.elements) or 'none'}: give at least one, each once"
            )

    def _check_phases(self, phases: Sequence[str]) -> None:
        for phase in phases:
            if phase not in self._content.phases:
                raise InvalidInputError(
                    f"{self.path}: " + unknown_name("phase", phase, self._content.phases)
                )
        if not phases:
            raise InvalidInputError(
                f"{self.path}: no phase is left that can hold {', '.join(self.elements)}; name "
                f"phases of the database ({', '.join(sorted(self._content.phases))})"
            )

    def _formable(self, elements: Sequence[str], phases: Sequence[str]) -> tuple[str, ...]:
        """Those phases every sublattice of which the elements and vacancies can fill."""
        there = {element.upper() for element in elements} | {VACANCY}
        return tuple(
            name
            for name in phases
            if all(
                any(set(species.constituents) <= there for species in sublattice)
                for sublattice in self._content.phases[name].constituents
            )
        )

    def equilibrium(
        self,
        composition: ArrayLike,
        temperature_K: float,
        *,
        phases: Sequence[str] | None = None,
        pressure_Pa: float = PRESSURE,
    ) -> Equilibrium:
        """State of least Gibbs energy at an overall composition, (e,) atomic fractions.

        ``phases``: that may form, default those of the database. Phases come in descending order
        of the first element's fraction; fractions are of atoms and energies J per mole of atoms.
        A fraction below 1e-10 counts as 1e-10, an element of fraction 0 is absent.
        Raises InvalidInputError for input that cannot be used, and ArithmeticError where
        pycalphad finds no state with equal potentials and the composition asked for.
        """
        chosen = self.phases if phases is None else tuple(phases)
        self._check_phases(chosen)
        z = self._composition(composition)
        for name, value in (("temperature", temperature_K), ("pressure", pressure_Pa)):
            if not (math.isfinite(value) and value > 0):
                raise InvalidInputError(f"{name} is {value:g}; expected a finite value > 0")
        present = [i for i in range(len(z)) if z[i] > 0]
        symbols = tuple(self.elements[i].upper() for i in present)
        formable = self._formable(symbols, chosen)
        if not formable:
            raise InvalidInputError(
                f"none of the phases {', '.join(chosen)} can hold {', '.join(symbols)} alone; "
                "name others"
            )
        v = self._library.variables
        conditions = {v.T: float(temperature_K), v.P: float(pressure_Pa), v.N: 1.0}
        conditions |= {v.X(s): float(z[i]) for s, i in zip(symbols[1:], present[1:], strict=True)}
        sets, potentials = self._solved(formable, symbols, conditions)
        names, amounts, inner = self._merged(sets, symbols)
        where = f"at {temperature_K:g} K and {dict(zip(self.elements, z.tolist(), strict=True))}"
        if not names:
            raise ArithmeticError(f"pycalphad found no equilibrium {where}")
        energies = np.array([float(one.energy) for one in sets])
        touching = np.array([_fractions(one, symbols) @ potentials for one in sets])
        apart = float(np.abs(energies - touching).max()) / (GAS_CONSTANT * temperature_K)
        imbalance = float(np.abs(amounts @ inner - z[present]).max())
        if not max(apart, imbalance) <= CERTIFIED:  # nan as well
            raise ArithmeticError(
                f"pycalphad's state {where} is {apart:.1e} R T off its tangent plane and "
                f"{imbalance:.1e} off the composition; expected {CERTIFIED:g}"
            )
        compositions = np.zeros((len(names), len(z)))
        compositions[:, present] = inner
        all_potentials = np.full(len(z), math.nan)
        all_potentials[present] = potentials
        order = np.argsort(-compositions[:, 0], kind="stable")
        return Equilibrium(
            phases=tuple(names[i] for i in order),
            fractions=amounts[order] / amounts.sum(),
            compositions=compositions[order],
            potentials=all_potentials,
            energy=float(sum(float(one.NP) * float(one.energy) for one in sets)),
        )

    def tie_line(
        self,
        first: str,
        second: str,
        composition: ArrayLike,
        temperature_K: float,
        *,
        pressure_Pa: float = PRESSURE,
    ) -> Equilibrium:
        """The two-phase equilibrium of two phases through an overall composition, these alone.

        Phases come in the order of the arguments; (2, e) compositions are the tie-line's ends.
        Raises InvalidInputError where the two are not in equilibrium with each other there, and
        as ``equilibrium`` does.
        """
        rest = self.equilibrium(
            composition, temperature_K, phases=(first, second), pressure_Pa=pressure_Pa
        )
        if sorted(rest.phases) != sorted((first, second)):
            raise InvalidInputError(
                f"no tie-line between {first} and {second} at {temperature_K:g} K and this "
                f"composition: {' and '.join(rest.phases)} alone; move the composition or the "
                "temperature into their two-phase region"
            )
        order = [0, 1] if rest.phases[0] == first else [1, 0]
        return Equilibrium(
            (first, second),
            rest.fractions[order],
            rest.compositions[order],
            rest.potentials,
            rest.energy,
        )

    def _composition(self, composition: ArrayLike) -> FloatArray:
        z = np.asarray(composition, dtype=np.float64)
        if z.shape != (len(self.elements),):
            raise InvalidInputError(
                f"composition has shape {z.shape}; expected ({len(self.elements)},) for "
                f"{', '.join(self.elements)}"
            )
        if not np.all(z >= 0) or abs(float(z.sum()) - 1) > SUM_TOLERANCE:
            raise InvalidInputError(
                "a composition has a fraction below 0 or does not sum to 1; normalise it first"
            )
        return z

    def _solved(
        self, phases: tuple[str, ...], symbols: tuple[str, ...], conditions: dict[Any, float]
    ) -> tuple[list[Any], FloatArray]:
        """pycalphad's composition sets, and the potentials in the order of the symbols."""
        key = (phases, symbols)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # divisions by absent phases inside pycalphad
            if key not in self._workspaces:
                self._workspaces[key] = self._library.Workspace(
                    self._content, [*symbols, VACANCY], list(phases), conditions
                )
            workspace = self._workspaces[key]
            for variable, value in conditions.items():
                workspace.conditions[variable] = value
            found: list[Any] = []
            for _, sets in workspace.enumerate_composition_sets():
                found = [one for one in sets if float(one.NP) > 0]
            names = [str(name) for name in workspace.eq.component]
            potentials = np.asarray(workspace.eq.MU, dtype=np.float64).reshape(-1)
        return found, potentials[[names.index(symbol) for symbol in symbols]]

    def _merged(
        self, sets: Sequence[Any], symbols: Sequence[str]
    ) -> tuple[list[str], FloatArray, FloatArray]:
        """Names, amounts (p,) and compositions (p, c); one phase found twice is put together."""
        names: list[str] = []
        amounts: list[float] = []
        compositions: list[FloatArray] = []
        for one in sets:
            name, amount, x = self._name(one), float(one.NP), _fractions(one, symbols)
            for i, other in enumerate(names):
                if other == name and np.abs(compositions[i] - x).max() < SAME_PHASE:
                    total = amounts[i] + amount
                    compositions[i] = (amounts[i] * compositions[i] + amount * x) / total
                    amounts[i] = total
                    break
            else:
                names.append(name)
                amounts.append(amount)
                compositions.append(x)
        return names, np.array(amounts), np.array(compositions).reshape(len(names), len(symbols))

    def _name(self, one: Any) -> str:
        """The phase of a composition set, an ordered one without order by its disordered name."""
        name = str(one.phase_record.phase_name)
        phase = self._content.phases[name]
        disordered = phase.model_hints.get("disordered_phase", name)
        if disordered == name:
            return name
        constituents = [frozenset(str(s) for s in sub) for sub in phase.constituents]
        alike = Counter(constituents)  # sublattices of order hold the same species
        sites = zip(
            one.phase_record.variables,
            np.asarray(one.dof, dtype=np.float64)[one.phase_record.num_statevars :],
            strict=True,
        )
        fractions: dict[tuple[frozenset[str], str], list[float]] = {}
        for variable, y in sites:
            kind = constituents[variable.sublattice_index]
            if alike[kind] > 1:
                fractions.setdefault((kind, str(variable.species)), []).append(float(y))
        if not fractions or any(max(y) - min(y) > ORDERED for y in fractions.values()):
            return name
        return str(disordered)


def _fractions(one: Any, symbols: Sequence[str]) -> FloatArray:
    """Atomic fractions of a composition set in the order of the symbols."""
    names = [str(name) for name in one.phase_record.nonvacant_elements]
    x = np.asarray(one.X, dtype=np.float64)
    return x[[names.index(symbol) for symbol in symbols]]
