"""A stand-in for the laboratory of the guide: fills a work list in, where nobody casts the alloys.

    python guide/stand_in.py CAMPAIGN_FOLDER WORK_LIST.csv

Every blank value becomes that of the measured alloy nearest in composition, with an uncertainty of
a tenth of it. These are not measurements; they are there so that the guide's commands can be tried.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path


def fill_in(campaign: Path, work_list: Path) -> int:
    """Write the values into the work list; returns how many."""
    with (campaign / "alloys.csv").open(newline="", encoding="utf-8") as stream:
        known = list(csv.DictReader(stream))
    with work_list.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        header, work = list(reader.fieldnames or ()), list(reader)
    elements = [column for column in header if column.startswith("alloy:")]
    filled = 0
    for row in work:
        nearest = min(known, key=lambda k: sum(abs(float(k[e]) - float(row[e])) for e in elements))
        for column in header:
            name, bracket, unit = column.partition(" [")
            if name in nearest and not row[column] and not name.endswith("_uncertainty"):
                value = float(nearest[name])
                row[column] = f"{value:.3g}"
                row[f"{name}_uncertainty{bracket}{unit}"] = f"{0.1 * abs(value):.2g}"
                filled += 1
    with work_list.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, header, lineterminator="\n")
        writer.writeheader()
        writer.writerows(work)
    return filled


if __name__ == "__main__":
    count = fill_in(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"{count} values filled in, none of them measured")
