"""Values of hostile columns by family: what a table in the wild may hold.

Every kind is a function of a generator and the number of rows. Values are Python
objects; what a dtype cannot hold is cut by the caller.
"""

import datetime
from decimal import Decimal

import numpy as np

LARGEST = np.finfo(np.float64).max
SMALLEST = np.nextafter(0.0, 1.0)
EPOCH = datetime.datetime(2024, 2, 28, 12, 30, 0, 250_000)


def _wild(rng, values, cells):
    """Return the values with one cell, sometimes more, that is far off."""
    values[rng.integers(len(values), size=1 + rng.integers(2))] = rng.choice(cells)
    return values


def _with_share(rng, values, other, share=0.2):
    return np.where(rng.random(len(values)) < share, other, values)


def _constant(rng, n):
    return np.full(n, rng.choice([0.0, 1.0, -3.7, 0.1, 1e-300, 1e300, 2.0**53, 1e9]))


def _nearly_constant(rng, n):
    constant = rng.choice([1.0, -3.7, 0.1, 1e9, 1e15, 1e-200])
    return _with_share(rng, np.full(n, constant), np.nextafter(constant, np.inf))


FLOATS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "uniform": lambda rng, n: rng.random(n),
    "constant": _constant,
    "nearly constant": _nearly_constant,
    "offset": lambda rng, n: rng.choice([1e6, -1e9, 1e12, 1e15]) + rng.normal(size=n),
    "small scale": lambda rng, n: rng.normal(size=n) * rng.choice([1e-30, 1e-300]),
    "large scale": lambda rng, n: rng.normal(size=n) * rng.choice([1e30, 1e150, 1e300]),
    "largest": lambda rng, n: rng.choice([-1.0, 1.0, 0.5], n) * LARGEST,
    "subnormal": lambda rng, n: rng.integers(-5, 9, n) * SMALLEST,
    "wild": lambda rng, n: _wild(rng, rng.normal(size=n), [999999.0, -1e30, 1e300]),
    "sentinel": lambda rng, n: _with_share(
        rng, rng.normal(size=n), rng.choice([-999.0, -1.0, 9999.0])
    ),
    "infinite": lambda rng, n: _wild(rng, rng.normal(size=n), [np.inf, -np.inf]),
    "zeros": lambda rng, n: rng.choice([-0.0, 0.0], n),
    "mostly zero": lambda rng, n: _with_share(rng, np.zeros(n), rng.normal(size=n)),
    "ids": lambda rng, n: 2.0**53 + 2.0 * np.arange(n),
    "timestamps": lambda rng, n: 1.7e9 + np.cumsum(rng.random(n)),
    "counts": lambda rng, n: rng.poisson(3.0, n).astype(float),
    "ties": lambda rng, n: rng.choice([0.1, 0.2, 0.7], n),
    "ladder": lambda rng, n: 10.0 ** rng.uniform(-300, 300, n),
    "cauchy": lambda rng, n: rng.standard_cauchy(n),
    "skewed": lambda rng, n: np.exp(5 * rng.normal(size=n)),
    "whole": lambda rng, n: np.round(rng.normal(size=n) * 20),
    "binary": lambda rng, n: rng.integers(0, 2, n).astype(float),
    "trend": lambda rng, n: np.arange(n) * 0.5,
}

INTEGERS = {
    "small": lambda rng, n, low, high: rng.integers(-9, 10, n),
    "counts": lambda rng, n, low, high: rng.poisson(2.0, n),
    "overdispersed": lambda rng, n, low, high: rng.negative_binomial(0.5, 0.05, n),
    "constant": lambda rng, n, low, high: (
        [_one_of(rng, [0, 1, 7, high, 2**53 + 1])] * n
    ),
    "binary": lambda rng, n, low, high: rng.integers(0, 2, n),
    "ends": lambda rng, n, low, high: [_one_of(rng, [low, 0, high]) for _ in range(n)],
    "near the end": lambda rng, n, low, high: [
        high - int(k) for k in rng.integers(9, size=n)
    ],
    "ids": lambda rng, n, low, high: [2**60 + 1 + k for k in range(n)],
    "few ids": lambda rng, n, low, high: [
        2**60 + int(k) for k in rng.integers(1, 4, n)
    ],
    "nanoseconds": lambda rng, n, low, high: [
        1_611_111_111_111_111_111 + 300_000_000 * k for k in range(n)
    ],
    "ties": lambda rng, n, low, high: rng.choice([0, 5, 100], n),
    "wild": lambda rng, n, low, high: _wild(
        rng, rng.integers(0, 9, n).astype(object), [9999, high]
    ),
    "sentinel": lambda rng, n, low, high: _with_share(rng, rng.integers(0, 9, n), -999),
    "row number": lambda rng, n, low, high: range(n),
}

TEXTS = {
    "few": lambda rng, n: rng.choice(["red", "green", "blue"], n),
    "two": lambda rng, n: rng.choice(["no", "yes"], n),
    "one": lambda rng, n: ["only"] * n,
    "unique": lambda rng, n: [f"row {k}" for k in range(n)],
    "empty": lambda rng, n: rng.choice(["", "a"], n),
    "spaces": lambda rng, n: rng.choice([" ", "  ", "\t", "a ", " a", "\n"], n),
    "words of missing": lambda rng, n: rng.choice(
        ["nan", "None", "NaN", "<NA>", "null"], n
    ),
    "numbers": lambda rng, n: rng.choice(["1", "1.0", "01", "-1", "1e5"], n),
    "unicode": lambda rng, n: rng.choice(
        ["ä", "ß", "日本", "🙂", "e\u0301", "\u200b"], n
    ),
    "long": lambda rng, n: [ch * 300 for ch in rng.choice(["x", "y"], n)],
    "case": lambda rng, n: rng.choice(["A", "a", "aA", "missing_value"], n),
    "control": lambda rng, n: rng.choice(["a\x00b", "a", "\x00"], n),
}

BOOLEANS = {
    "mixed": lambda rng, n: rng.random(n) < 0.5,
    "constant": lambda rng, n: [bool(rng.integers(2))] * n,
    "rare": lambda rng, n: np.arange(n) == 0,
}


def _one_of(rng, values):
    """Return one of Python values as it is; NumPy would change their type."""
    return values[rng.integers(len(values))]


def _steps(rng, n):
    """Whole numbers for columns of dates and the like: few, or one per row."""
    return [int(k) for k in (rng.integers(0, 4, n) if rng.random() < 0.5 else range(n))]


OTHERS = {
    "date": lambda rng, n: [
        EPOCH.date() + datetime.timedelta(k) for k in _steps(rng, n)
    ],
    "datetime": lambda rng, n: [
        EPOCH + datetime.timedelta(k, 5) for k in _steps(rng, n)
    ],
    "duration": lambda rng, n: [datetime.timedelta(k, 0.5) for k in _steps(rng, n)],
    "time": lambda rng, n: [datetime.time(k % 24, k % 60) for k in _steps(rng, n)],
    "decimal": lambda rng, n: [Decimal(k) / 4 for k in _steps(rng, n)],
    "binary": lambda rng, n: [b"%d" % k for k in _steps(rng, n)],
    "list": lambda rng, n: [[k, k + 1] for k in _steps(rng, n)],
    "struct": lambda rng, n: [{"k": k} for k in _steps(rng, n)],
    "complex": lambda rng, n: [complex(k, 1) for k in _steps(rng, n)],
    "null": lambda rng, n: [None] * n,
    "mixture": lambda rng, n: [
        _one_of(rng, [1, 2.5, "a", True, None, (1, 2), EPOCH, Decimal("0.1")])
        for _ in range(n)
    ],
}


def draw_values(rng, family, n, low=-(2**63), high=2**63 - 1):
    """Return the name of a kind of values of a family and ``n`` values of it.

    Integers are cut to ``low`` and ``high``, floats to their size: the ends of a dtype.
    """
    if family in OTHERS:
        return family, OTHERS[family](rng, n) if n else []
    kinds = {"float": FLOATS, "integer": INTEGERS, "string": TEXTS, "boolean": BOOLEANS}
    names = list(kinds[family])
    kind = names[rng.integers(len(names))]
    draw = kinds[family][kind]
    if not n:
        return kind, []
    if family == "integer":
        return kind, [min(max(int(v), low), high) for v in draw(rng, n, low, high)]
    values = draw(rng, n)
    if family == "float":
        finite = np.clip(values, -float(high), float(high))
        values = np.where(np.isinf(values), values, finite)
        return kind, [float(v) for v in values]
    return kind, [bool(v) if family == "boolean" else str(v) for v in values]


def draw_missing(rng, n):
    """Return which cells of a column are missing, ``n`` booleans."""
    mask = np.zeros(n, dtype=bool)
    if not n:
        return mask
    kind = rng.choice(
        ["none", "some", "many", "one", "all but one", "all", "first half", "last"],
        p=[0.4, 0.3, 0.06, 0.08, 0.04, 0.04, 0.04, 0.04],
    )
    if kind in ("some", "many"):
        return rng.random(n) < (0.2 if kind == "some" else 0.8)
    if kind == "one":
        mask[rng.integers(n)] = True
    elif kind == "first half":
        mask[: n // 2] = True
    elif kind == "last":
        mask[-1] = True
    elif kind != "none":
        mask[:] = True
        mask[rng.integers(n)] = kind == "all"
    return mask
