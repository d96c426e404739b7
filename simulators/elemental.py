"""Properties of a phase from its composition: pymatgen's elemental data and stated mixing rules.

Everything holds at room temperature (298.15 K) and for metallic phases.

Density. Additive atomic volumes: sum x_i M_i / sum x_i V_i, V_i the element's molar volume.
Ordering contracts real aluminides, which the rule does not know: Ni3Al by 6 to 8 %, for lattice
parameters of 0.359 to 0.357 nm.

Elastic moduli. Voigt-Reuss-Hill average of bulk and shear modulus over the elements' volume
fractions (R. Hill, Proc. Phys. Soc. A 65, 349, 1952). The shear modulus of an element is
3 K E / (9 K - E) from its bulk and Young's modulus, which pymatgen's table has consistently;
its rigidity modulus has not (20 GPa for Mo, where E and K give 130 GPa).

Thermal conductivity. A lattice part and an electronic part,

    k = k_lattice + 1 / (sum x_i / (k_i - k_lattice) + rho_disorder / (L0 T)),
    rho_disorder = (1 - S^2) sum_{i<j} C_ij x_i x_j,

which gives every pure element its tabulated k_i. Matthiessen's rule adds the thermal resistances;
rho_disorder is Nordheim's rule for several components (L. Nordheim, Ann. Phys. 401, 607, 1931);
L0 is the Sommerfeld value of the Lorenz number (Wiedemann-Franz law). Linde's rule gives
C_ij = a + b min(|Z_i - Z_j|, 4)^2, Z the group number (J. O. Linde, Ann. Phys. 407, 219, 1932,
for dilute alloys of copper; its use between all metals is our extension):
  b  from 80Ni-20Cr (mass %), 108 uOhm cm within 5 % at 20 C (Isabellenhuette, data sheet of
     ISA-CHROM 80), which fixes a + 16 b;
  a  from the isovalent pair Au-Ag, about 10.5 uOhm cm at 50:50;
  the cap lies at nickel-chromium's own difference of 4: Linde's parabola would give the early
  transition metals in nickel far more than chromium.
k_lattice is what is left of 80Ni-20Cr's 11.3 W/mK after its electronic part. S is a long-range
order parameter per phase, for ordered atoms do not scatter: the factor is (1 - S^2) / (1 - A S^2)
with A = 0 (P. L. Rossiter, Long-range order and the electrical resistivity, J. Phys. F 9, 891,
1979, and its sequel of the same title). Here S is an effective value: 0.8 gives stoichiometric
Ni3Al about 28 W/mK.

How sure that is. Looked up and found: these papers, 108 uOhm cm, 11.3 W/mK as the value that
tables of nichrome repeat (no measurement behind it was found). Not confirmed:
  - 10.5 uOhm cm for Au-Ag (the source would be C. Y. Ho et al., J. Phys. Chem. Ref. Data 12, 183,
    1983). It hardly matters: 10 % more or less of a changes the phases of a superalloy by 0.2 %.
  - 28 W/mK for Ni3Al. What R. K. Williams et al. report (MRS Proc. 39, 505, 1985) was not seen in
    figures; in another study the best conductor of six L1_2 compounds of nickel and iron is Ni3Ga
    with 32.8 W/mK (S. Hanai et al., Intermetallics 4, S41, 1996).
  - that early transition metals in nickel scatter about as chromium does.
Against alloys not used above: chromel (9.5 % Cr by mass) has 68 uOhm cm and 17.6 W/mK at 20 C in
tables, the rules give 63 and 16.0. Its lattice part would be 7 W/mK, as that of Ni3Al, where
phonons carry a quarter (Williams et al., Thermal Conductivity 18, 1985): k_lattice may be 2.5 too
low, and with it a matrix of 10 W/mK by a quarter. With 24 at.% Al Ni3Al conducts up to 30 % less
than at stoichiometry, which S does not know. So the rules are for trends; levels may be wrong by
a quarter.

Cost. Element prices by mass from pymatgen's table (``pymatgen.analysis.cost``, most of 2013).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import SupportsFloat

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loop.errors import InvalidInputError, unknown_name
from simulators import elemental_rules as rules

FloatArray = NDArray[np.float64]

TEMPERATURE_K = 298.15
AVOGADRO = 6.02214076e23  # 1/mol
LORENZ = (math.pi * 1.380649e-23 / 1.602176634e-19) ** 2 / 3  # W Ohm / K^2, Sommerfeld
LINDE_A = 35e-8  # Ohm m
LINDE_B = 34.2e-8  # Ohm m
LINDE_CAP = 4  # group numbers
LATTICE_CONDUCTIVITY = 4.56  # W / (m K)

# Name in settings -> what pymatgen calls it.
DATA: Mapping[str, str] = {
    "molar_mass_g_per_mol": "atomic mass",
    "molar_volume_cm3_per_mol": "molar volume",
    "bulk_modulus_GPa": "bulk modulus",
    "youngs_modulus_GPa": "Young's modulus",
    "thermal_conductivity_W_per_mK": "thermal conductivity",
    "group": "group",
    "cost_USD_per_kg": "price",
}


@dataclass(frozen=True, slots=True)
class ElementTable:
    """Data of e elements, each column (e,); not a number where unknown."""

    symbols: tuple[str, ...]
    columns: Mapping[str, FloatArray]

    def __getitem__(self, name: str) -> FloatArray:
        """Column ``name``; InvalidInputError names the element that lacks it."""
        column = self.columns[name]
        for symbol, value in zip(self.symbols, column, strict=True):
            if math.isnan(value):
                raise InvalidInputError(
                    f"element {symbol} has no {DATA[name]} in pymatgen's tables; give "
                    f"element_data.{symbol}.{name}, leave the element out, or ask for fewer outputs"
                )
        return column


def element_table(
    symbols: Sequence[str], overrides: Mapping[str, Mapping[str, float]] | None = None
) -> ElementTable:
    """Data of the elements; ``overrides``: symbol -> {name in DATA: value}.

    Raises InvalidInputError for an unknown element or data name, or a value that is not > 0.
    """
    overrides = overrides or {}
    for symbol, given in overrides.items():
        if symbol not in symbols:
            raise InvalidInputError("element_data: " + unknown_name("element", symbol, symbols))
        for name, value in given.items():
            if name not in DATA:
                raise InvalidInputError(
                    f"element_data.{symbol}: " + unknown_name("key", name, DATA)
                )
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise InvalidInputError(
                    f"element_data.{symbol}.{name} is {value!r}; expected a number > 0"
                )
            if not (math.isfinite(value) and value > 0):
                raise InvalidInputError(
                    f"element_data.{symbol}.{name} is {value}; expected a number > 0"
                )
    rows = [{**tabulated(symbol), **overrides.get(symbol, {})} for symbol in symbols]
    columns = {name: np.array([row[name] for row in rows], dtype=np.float64) for name in DATA}
    return ElementTable(tuple(symbols), columns)


@cache
def tabulated(symbol: str) -> dict[str, float]:
    """What pymatgen knows of one element, in the units of DATA; nan where it knows nothing."""
    try:
        from pymatgen.analysis.cost import CostDBElements
        from pymatgen.core import Element
    except ImportError as error:
        raise InvalidInputError(
            f"phase properties from compositions need pymatgen ({error}); pip install pymatgen"
        ) from None
    if symbol not in {entry.value for entry in Element}:
        raise InvalidInputError(unknown_name("element", symbol, [e.value for e in Element]))

    def number(value: SupportsFloat | None) -> float:
        return math.nan if value is None else float(value)

    with warnings.catch_warnings():  # pymatgen warns of every gap; a gap is a nan here
        warnings.simplefilter("ignore")
        element = Element(symbol)
        prices = CostDBElements().get_entries([element])
        # An entry's energy is its price times the mass of one mole.
        per_kg = [
            entry.energy / (float(entry.composition.weight.to("kg")) * AVOGADRO) for entry in prices
        ]
        return {
            "molar_mass_g_per_mol": number(element.atomic_mass),
            "molar_volume_cm3_per_mol": number(element.molar_volume),
            "bulk_modulus_GPa": number(element.bulk_modulus),
            "youngs_modulus_GPa": number(element.youngs_modulus),
            "thermal_conductivity_W_per_mK": number(element.thermal_conductivity),
            "group": float(element.group),
            "cost_USD_per_kg": min(per_kg, default=math.nan),
        }


def _fractions(compositions: ArrayLike, table: ElementTable) -> FloatArray:
    x = np.asarray(compositions, dtype=np.float64)
    if x.ndim < 1 or x.shape[-1] != len(table.symbols):
        raise InvalidInputError(
            f"compositions have shape {x.shape}; expected (..., {len(table.symbols)}) for "
            f"{', '.join(table.symbols)}"
        )
    return x


def density(compositions: ArrayLike, table: ElementTable) -> FloatArray:
    """(..., e) atomic fractions -> (...) g/cm3."""
    x = _fractions(compositions, table)
    return rules.density(x, table["molar_mass_g_per_mol"], table["molar_volume_cm3_per_mol"])


def elastic_moduli(compositions: ArrayLike, table: ElementTable) -> tuple[FloatArray, FloatArray]:
    """(..., e) atomic fractions -> bulk and shear modulus, (...) GPa each."""
    x, volumes = _fractions(compositions, table), table["molar_volume_cm3_per_mol"]
    bulk, shear = table["bulk_modulus_GPa"], shear_moduli(table)
    return rules.hill(x, volumes, bulk), rules.hill(x, volumes, shear)


def shear_moduli(table: ElementTable) -> FloatArray:
    """Shear moduli of the elements in GPa, (e,), from Young's and bulk modulus.

    Raises InvalidInputError where they contradict each other.
    """
    bulk, young = table["bulk_modulus_GPa"], table["youngs_modulus_GPa"]
    if np.any(young >= 9 * bulk):
        worst = table.symbols[int(np.argmax(young / bulk))]
        raise InvalidInputError(
            f"element {worst}: Young's modulus is not below 9 times its bulk modulus, so its shear "
            "modulus would not be positive; correct element_data"
        )
    shear: FloatArray = 3 * bulk * young / (9 * bulk - young)
    return shear


def linde_coefficients(groups: FloatArray) -> FloatArray:
    """Group numbers (e,) -> C_ij in Ohm m, (e, e), zero on the diagonal."""
    step = np.minimum(np.abs(groups[:, None] - groups[None, :]), LINDE_CAP)
    c: FloatArray = LINDE_A + LINDE_B * step**2
    np.fill_diagonal(c, 0.0)
    return c


def thermal_conductivity(
    compositions: ArrayLike, table: ElementTable, order: ArrayLike = 0.0
) -> FloatArray:
    """(..., e) atomic fractions -> (...) W/mK; ``order``: S, broadcast to (...), 0 <= S < 1."""
    x = _fractions(compositions, table)
    s = np.asarray(order, dtype=np.float64)
    k: FloatArray = LATTICE_CONDUCTIVITY + 1 / rules.resistance(
        x, electronic_conductivities(table), linde_resistances(table), 1 - s**2
    )
    return k


def electronic_conductivities(table: ElementTable) -> FloatArray:
    """Conductivities of the elements less the lattice part, W/mK, (e,).

    Raises InvalidInputError for an element that conducts no more than that.
    """
    pure = table["thermal_conductivity_W_per_mK"]
    if np.any(pure <= LATTICE_CONDUCTIVITY):
        poor = int(np.argmin(pure))
        raise InvalidInputError(
            f"element {table.symbols[poor]} conducts {pure[poor]:g} W/mK, no more than the lattice "
            f"part of {LATTICE_CONDUCTIVITY:g}; the rule holds for metals, leave it out"
        )
    return pure - LATTICE_CONDUCTIVITY


def linde_resistances(table: ElementTable) -> FloatArray:
    """Thermal resistance coefficients of the pairs in m K/W, (e, e): Linde's over L T."""
    coefficients: FloatArray = linde_coefficients(table["group"]) / (LORENZ * TEMPERATURE_K)
    return coefficients


def material_cost(compositions: ArrayLike, table: ElementTable) -> FloatArray:
    """(..., e) atomic fractions -> (...) USD/kg of the elements bought pure."""
    x = _fractions(compositions, table)
    return rules.cost(x, table["molar_mass_g_per_mol"], table["cost_USD_per_kg"])
