"""English names of the elements, for what people write where a symbol is expected."""

from __future__ import annotations

_NAMES = (
    "Hydrogen Helium Lithium Beryllium Boron Carbon Nitrogen Oxygen Fluorine Neon Sodium Magnesium "
    "Aluminum Silicon Phosphorus Sulfur Chlorine Argon Potassium Calcium Scandium Titanium "
    "Vanadium Chromium Manganese Iron Cobalt Nickel Copper Zinc Gallium Germanium Arsenic Selenium "
    "Bromine Krypton Rubidium Strontium Yttrium Zirconium Niobium Molybdenum Technetium Ruthenium "
    "Rhodium Palladium Silver Cadmium Indium Tin Antimony Tellurium Iodine Xenon Cesium Barium "
    "Lanthanum Cerium Praseodymium Neodymium Promethium Samarium Europium Gadolinium Terbium "
    "Dysprosium Holmium Erbium Thulium Ytterbium Lutetium Hafnium Tantalum Tungsten Rhenium Osmium "
    "Iridium Platinum Gold Mercury Thallium Lead Bismuth Polonium Astatine Radon Francium Radium "
    "Actinium Thorium Protactinium Uranium Neptunium Plutonium Americium Curium Berkelium "
    "Californium Einsteinium Fermium Mendelevium Nobelium Lawrencium Rutherfordium Dubnium "
    "Seaborgium Bohrium Hassium Meitnerium Darmstadtium Roentgenium Copernicium Nihonium Flerovium "
    "Moscovium Livermorium Tennessine Oganesson"
)
NAMES: tuple[str, ...] = tuple(_NAMES.split())  # by atomic number, as pymatgen spells them

# IUPAC's spellings, and older names that are still met in tables of alloys.
OTHER_NAMES = {
    "aluminium": "Al",
    "sulphur": "S",
    "caesium": "Cs",
    "wolfram": "W",
    "columbium": "Nb",
}
