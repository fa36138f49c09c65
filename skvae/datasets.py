"""Small data sets that come with the package, and missing cells for any table."""

import csv
from importlib import resources
from numbers import Real
from typing import Any

import numpy as np
from scipy.optimize import bisect
from scipy.special import expit, logit
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from skvae._tables.libraries import (
    LIBRARIES,
    checked_array,
    library_of,
    native,
    refuse_lazy,
)
from skvae._tables.table import Table
from skvae._tables.values import object_families
from skvae._validation import numpy_defaults

__all__ = ["ampute", "load_penguins"]

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


@validate_params(
    {
        "mechanism": [StrOptions({"mcar", "mar", "mnar"})],
        "rate": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
@numpy_defaults()
def ampute(
    X: Any, mechanism: str = "mcar", rate: float = 0.3, *, random_state: Any = None
) -> Any:
    """Make cells of a table missing: at random or by a known mechanism.

    The opposite of imputation. As the removed values are known, an imputer can be
    measured on them.

    Parameters
    ----------
    X : array-like or data frame of shape (n_samples, n_features)
        The table: a NumPy array or a pandas, polars or pyarrow table, with numbers,
        booleans (which count as 0 and 1) and categories or strings. Cells may be
        missing already, and stay so.
    mechanism : {"mcar", "mar", "mnar"}, default="mcar"
        What decides that a cell goes missing [1]_.

        - "mcar", missing completely at random: nothing. Every cell goes missing with
          the same probability.
        - "mar", missing at random: other cells of its row, which stay observed. A
          random third of the columns, at least one, is left as it is. In the other
          columns the log-odds of going missing are a random linear combination of the
          standardised columns that are left, of unit variance and with coefficients
          of its own for every column [2]_.
        - "mnar", missing not at random: the value of the cell itself. The log-odds are
          three times the standardised value, so large numbers vanish more often.

        The categories of a column count as numbers drawn from a standard normal
        distribution.
    rate : float, default=0.3
        Expected share of the observed cells that go missing, between 0 and 1: in every
        column, or with "mar" in every column that is not left as it is.
    random_state : int, RandomState instance or None, default=None
        Determines which cells go missing. An int gives the same cells at every call,
        whatever library the table comes from.

    Returns
    -------
    X_missing : array or data frame of shape (n_samples, n_features)
        A copy of X, of the same library, with the same dtypes as far as these can hold
        missing cells: an array of integers or booleans becomes float64 and one of
        strings becomes object; pandas columns of NumPy integers that lose a cell
        become float64, those of NumPy booleans "boolean". Missing cells are NaN, or
        the missing value of the dtype.

    Raises
    ------
    ValueError
        If "mar" is asked of a single column; if "mar" or "mnar" meets infinite values,
        or columns that are neither numbers nor categories, such as dates.

    See Also
    --------
    load_penguins : A table with some missing cells of its own.

    References
    ----------
    .. [1] Rubin, D. B. (1976). Inference and missing data. Biometrika 63(3), 581-592.
    .. [2] Muzellec, B., Josse, J., Boyer, C. and Cuturi, M. (2020). Missing data
       imputation using optimal transport. Proceedings of the 37th International
       Conference on Machine Learning, 7130-7140.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.datasets import ampute
    >>> X = np.arange(12).reshape(4, 3)
    >>> ampute(X, rate=0.25, random_state=1)
    array([[ 0.,  1., nan],
           [ 3., nan, nan],
           [nan,  7.,  8.],
           [ 9., 10., 11.]])
    """
    X = native(X)
    refuse_lazy(X)
    library = library_of(X)
    if library is LIBRARIES["numpy"]:
        X = checked_array(X, "X", dtype=None, ensure_all_finite=False)
    table = library.read(X)
    rng = check_random_state(random_state)
    # Drawn first, so that with "mcar" the cells missing at a low rate are also missing
    # at a higher one.
    uniform = rng.random_sample((table.n_rows, table.n_columns))
    if mechanism == "mcar":
        probabilities = np.full(uniform.shape, float(rate))
    elif mechanism == "mar":
        probabilities = _mar_probabilities(table, rate, rng)
    else:
        probabilities = _mnar_probabilities(table, rate, rng)
    return library.mask_cells(X, uniform < probabilities)


# ---------------------------------------------------------------------------
# Which cells go missing
# ---------------------------------------------------------------------------
def _mar_probabilities(
    table: Table, rate: float, rng: np.random.RandomState
) -> np.ndarray:
    """Probability that a cell goes missing, given the columns that stay: (n, d)."""
    if table.n_columns < 2:
        raise ValueError(
            'mechanism="mar" removes cells by columns that stay observed, but X has '
            f'{table.n_columns} column(s). Add a column, or use "mcar" or "mnar".'
        )
    scores = _scores(table, rng)
    order = rng.permutation(table.n_columns)
    kept, others = np.split(order, [max(1, table.n_columns // 3)])
    causes = np.nan_to_num(scores[:, kept])  # a missing cell counts as the mean
    probabilities = np.zeros(scores.shape)
    for column in others:
        log_odds = _standardise(causes @ rng.standard_normal(len(kept)))
        observed = ~np.isnan(scores[:, column])
        probabilities[:, column] = _probabilities(log_odds, observed, rate)
    return probabilities


def _mnar_probabilities(
    table: Table, rate: float, rng: np.random.RandomState
) -> np.ndarray:
    """Probability that a cell goes missing, given its own value: (n, d)."""
    scores = _scores(table, rng)
    probabilities = np.zeros(scores.shape)
    for column, values in enumerate(scores.T):
        log_odds = 3 * np.nan_to_num(values)
        probabilities[:, column] = _probabilities(log_odds, ~np.isnan(values), rate)
    return probabilities


def _scores(table: Table, rng: np.random.RandomState) -> np.ndarray:
    """Standardised numbers, random scores of categories, NaN where missing: (n, d)."""
    scores = np.empty((table.n_rows, table.n_columns))
    for index, label in enumerate(table.labels):
        if _is_numeric(table, index):
            values = table.numbers(index).astype(np.float64)
            if np.isinf(values).any():
                raise ValueError(
                    f"Column {label!r} holds infinite values, which cannot be "
                    'standardised. Replace them, or use mechanism="mcar".'
                )
            scores[:, index] = _standardise(values)
        else:
            scores[:, index] = _category_scores(*table.factorize(index), rng)
    return scores


def _is_numeric(table: Table, index: int) -> bool:
    type_ = table.column_type(index)
    family = type_.family
    if family == "other":
        raise ValueError(
            f"Column {table.labels[index]!r} has the dtype {type_.name}, which is "
            "neither numeric nor categorical. Convert or drop it, or use "
            'mechanism="mcar".'
        )
    if family == "object":
        return set(object_families(table.objects(index))) <= {"boolean", "number"}
    return family in ("float", "integer", "boolean", "null")


def _category_scores(
    codes: np.ndarray, categories: list, rng: np.random.RandomState
) -> np.ndarray:
    """Draw a number for every category, NaN where the cell is missing."""
    # Libraries list categories in different orders, or list some that do not occur.
    observed = np.unique(codes[codes >= 0])
    present = sorted(observed, key=lambda code: str(categories[code]))
    numbers = np.full(len(categories) + 1, np.nan)  # the last one serves the code -1
    numbers[present] = rng.standard_normal(len(present))
    return numbers[codes]


def _standardise(values: np.ndarray) -> np.ndarray:
    """Shift and scale the observed values to mean 0 and variance 1; constants to 0."""
    observed = values[~np.isnan(values)]
    if observed.size:  # dividing by a power of two is exact; squares stay finite
        exponent = np.frexp(np.abs(observed).max())[1]
        values, observed = np.ldexp(values, -exponent), np.ldexp(observed, -exponent)
    # The deviation of a constant may be a rounding error, that of tiny numbers 0.
    if not observed.size or observed.min() == observed.max() or observed.std() == 0:
        return values * 0
    return (values - observed.mean()) / observed.std()


def _probabilities(
    log_odds: np.ndarray, observed: np.ndarray, rate: float
) -> np.ndarray:
    """Logistic probabilities, shifted to have the mean ``rate`` in observed cells."""
    known = log_odds[observed]
    if not known.size:
        return np.zeros(len(log_odds))
    # With the first shift every probability is below the rate, with the last above.
    shift = bisect(
        lambda shift: expit(known + shift).mean() - rate,
        logit(rate) - known.max() - 1,
        logit(rate) - known.min() + 1,
    )
    return expit(log_odds + shift)
