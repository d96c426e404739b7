"""Chemistry in words: element symbols, formulas, mass fractions, pymatgen in and out."""

from __future__ import annotations

from loop.errors import InvalidInputError, unknown_name

_SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb "
    "Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm "
    "Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og"
)
SYMBOLS: tuple[str, ...] = tuple(_SYMBOLS.split())


def check_symbol(symbol: str, where: str) -> None:
    """Raise InvalidInputError, its text starting with ``where``, unless the element exists."""
    if symbol not in SYMBOLS:
        raise InvalidInputError(f"{where}: " + unknown_name("element", symbol, SYMBOLS))
