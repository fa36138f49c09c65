"""Small data sets that come with the package."""

import csv
from importlib import resources
from typing import Any

import numpy as np
from sklearn.utils import Bunch

__all__ = ["load_penguins"]

_NUMERIC = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
_FEATURES = ["island", *_NUMERIC, "sex"]
_TARGET = "species"

_PENGUINS_DESCRIPTION = """\
Palmer penguins
---------------

344 adult penguins of three species, measured on three islands of the Palmer
Archipelago, Antarctica, in the years 2007 to 2009.

:Number of rows: 344
:Number of features: 6 (4 numeric, 2 categorical)
:Missing cells: 19 (2 in each numeric column, 11 in sex)
:Target: species (152 Adelie, 68 Chinstrap, 124 Gentoo)

- island: Biscoe, Dream or Torgersen
- bill_length_mm: length of the bill, in millimetres
- bill_depth_mm: depth of the bill, in millimetres
- flipper_length_mm: length of the flipper, in millimetres
- body_mass_g: body mass, in grams
- sex: FEMALE or MALE

The data were collected by Kristen Gorman and the Palmer Station, Antarctica LTER,
and are free for any use (CC0).

- Gorman, K. B., Williams, T. D. and Fraser, W. R. (2014). Ecological sexual
  dimorphism and environmental variability within a community of Antarctic penguins
  (genus Pygoscelis). PLoS ONE 9(3), e90081.
- Horst, A. M., Hill, A. P. and Gorman, K. B. (2020). palmerpenguins: Palmer
  Archipelago (Antarctica) penguin data. R package version 0.1.0.
"""


def load_penguins(*, return_X_y: bool = False, as_frame: bool = True) -> Any:
    """Load the Palmer penguins: a small mixed table with missing cells.

    344 penguins of three species, with four measurements, the island and the sex.
    19 cells are missing in the original data. The data are in the public domain (CC0)
    and come with the package, so nothing is downloaded.

    Parameters
    ----------
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.
    as_frame : bool, default=True
        Return pandas objects: float64 columns for the measurements and ``category``
        columns for island, sex and species. With False, NumPy arrays are returned and
        pandas is not needed; the data are then an object array, in which the columns 0
        and 5 hold strings.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        Dictionary-like object with these attributes:

        data : DataFrame or object array of shape (344, 6)
            The features. Missing cells are NaN. Lengths and depths are in millimetres,
            masses in grams.
        target : Series or array of str, of shape (344,)
            The species.
        frame : DataFrame of shape (344, 7) or None
            Features and target together, None when ``as_frame=False``.
        feature_names : list of str
            The names of the six features.
        target_names : array of str, of shape (3,)
            The names of the three species, sorted.
        DESCR : str
            The description of the data set, with its references.
        filename : str
            The name of the file inside the package.

    (data, target) : tuple, only if ``return_X_y`` is True
        The features and the species.

    See Also
    --------
    sklearn.datasets.load_iris : A similar table without missing cells or categories.

    References
    ----------
    .. [1] Gorman, K. B., Williams, T. D. and Fraser, W. R. (2014). Ecological sexual
       dimorphism and environmental variability within a community of Antarctic
       penguins (genus Pygoscelis). PLoS ONE 9(3), e90081.
    .. [2] Horst, A. M., Hill, A. P. and Gorman, K. B. (2020). palmerpenguins: Palmer
       Archipelago (Antarctica) penguin data. R package version 0.1.0.

    Examples
    --------
    >>> from skvae.datasets import load_penguins
    >>> penguins = load_penguins()
    >>> penguins.data.shape
    (344, 6)
    >>> int(penguins.data.isna().sum().sum())
    19
    >>> penguins.target_names.tolist()
    ['Adelie', 'Chinstrap', 'Gentoo']
    """
    data, target = _read_penguins()
    frame = None
    if as_frame:
        frame = _to_frame(data, target)
        data, target = frame[_FEATURES], frame[_TARGET]
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        feature_names=list(_FEATURES),
        target_names=np.unique(np.asarray(target, dtype=str)),
        DESCR=_PENGUINS_DESCRIPTION,
        filename="penguins.csv",
    )


def _read_penguins() -> tuple[np.ndarray, np.ndarray]:
    """Read the file: features (344, 6) of floats, strings and NaN; species (344,)."""
    path = resources.files("skvae") / "data" / "penguins.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    data = np.empty((len(rows), len(_FEATURES)), dtype=object)
    for column, name in enumerate(_FEATURES):
        convert = float if name in _NUMERIC else str
        data[:, column] = [convert(row[name]) if row[name] else np.nan for row in rows]
    return data, np.array([row[_TARGET] for row in rows])


def _to_frame(data: np.ndarray, target: np.ndarray) -> Any:
    """Join features and target in a pandas DataFrame with its proper dtypes."""
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(
            "load_penguins(as_frame=True) needs pandas. Install it with "
            "`pip install pandas`, or pass as_frame=False to get NumPy arrays."
        ) from error
    frame = pd.DataFrame(data, columns=_FEATURES)
    frame[_TARGET] = target
    return frame.astype(
        {name: "float64" if name in _NUMERIC else "category" for name in frame.columns}
    )
