"""Errors that others report for properties of high-entropy alloys, as their abstracts state them.

None of them is of this data set split by paper: where a split is named it is of rows, so that
alloys of one paper, neighbours in composition, are on both sides of it. Compare them with
``by_row`` of the results. Looked for and not found: an error in the data set's own paper
(C. K. H. Borg et al., Sci. Data 7, 430, 2020, doi:10.1038/s41597-020-00768-9), and a figure in the
abstract of U. Bhandari et al., Yield strength prediction of high-entropy alloys using machine
learning, Mater. Today Commun. (2020), doi:10.1016/j.mtcomm.2020.101871.
"""

from __future__ import annotations

from typing import Any

PUBLISHED: tuple[dict[str, Any], ...] = (
    {
        "source": "Metals 15, 487 (2025), doi:10.3390/met15050487",
        "what": "random forest, hardness and compressive yield strength of cast alloys",
        "property": ["hardness_HV", "yield_strength_MPa"],
        "R2": [0.90, 0.91],
        "split": "test set; the conclusions give the two figures the other way round",
    },
    {
        "source": "Metals 15, 371 (2025), doi:10.3390/met15040371",
        "what": "gradient-boosted trees, strength of refractory alloys from literature",
        "property": ["yield_strength_MPa"],
        "R2": [0.87],
        "RMSE_MPa": [195.53],
        "split": "test set",
    },
    {
        "source": "S. Lee et al., Materials 19, 196 (2026), doi:10.3390/ma19010196",
        "what": "gradient boosting, yield strength from composition, 181 alloys",
        "property": ["yield_strength_MPa"],
        "R2": [0.85],
        "split": "not said in the abstract",
    },
    {
        "source": "Metals 11, 1559 (2021), doi:10.3390/met11101559",
        "what": "neural network, yield strength from mole fractions and processing",
        "property": ["yield_strength_MPa"],
        "mean_error_percent": [19.6],
        "split": "test data; 33.9 % without the processing",
    },
    {
        "source": "U. M. R. Paturi et al., Crystals 15, 404 (2025), doi:10.3390/cryst15050404",
        "what": "neural network, hardness of AlCoCrCuFeNi alloys, 116 alloys to learn from",
        "property": ["hardness_HV"],
        "R2": [0.9639],
        "split": "39 other alloys of the same collection of one alloy system",
    },
    {
        "source": "M. Nchekwube et al., Materials 18, 4655 (2025), doi:10.3390/ma18204655",
        "what": "neural network, hardness from the fractions of ten elements, 535 rows",
        "property": ["hardness_HV"],
        "R2": [0.993],
        "split": "testing rows; adjusted R2",
    },
)
