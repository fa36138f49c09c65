"""Integers are exact everywhere, and whole numbers stay whole."""

import narwhals.stable.v2 as nw
import numpy as np
import pytest

from skvae import VAEClassifier, VAEImputer, VAERegressor, VAETransformer

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

SHORT = {"max_iter": 1, "hidden_layer_sizes": (4,), "random_state": 0}
RNG = np.random.default_rng(0)
X0 = RNG.normal(size=41).tolist()

ENDS = {
    "beyond floats": [2**60 + 1, 2**60 + 2],
    "int64": [-(2**63), 2**63 - 1],
    "uint64": [2**64 - 1, 2**64 - 2],
}


def nullable(values):
    return "UInt64" if max(values) >= 2**63 else "Int64"


BUILD = {
    "numpy": lambda a, b: np.array([a, b], dtype=object).T,
    "pandas": lambda a, b: pd.DataFrame(
        {"a": pd.array(a, dtype=nullable(v for v in a if v is not None)), "b": b}
    ),
    "pandas-object": lambda a, b: pd.DataFrame(
        {"a": pd.Series(a, dtype=object), "b": b}
    ),
    "pandas-arrow": lambda a, b: pd.DataFrame(
        {"a": pd.Series(pd.arrays.ArrowExtensionArray(arrow(a))), "b": b}
    ),
    "polars": lambda a, b: pl.DataFrame(
        {"a": pl.Series(a, dtype=getattr(pl, nullable(known(a)))), "b": b}
    ),
    "polars-object": lambda a, b: pl.DataFrame(
        {"a": pl.Series(a, dtype=pl.Object), "b": b}
    ),
    "pyarrow": lambda a, b: pa.table({"a": arrow(a), "b": b}),
}


def known(values):
    return [value for value in values if value is not None]


def arrow(values):
    return pa.array(values, pa.uint64() if max(known(values)) >= 2**63 else pa.int64())


def first_column(table):
    if isinstance(table, np.ndarray):
        return table[:, 0].tolist()
    if isinstance(table, pa.Table):
        return table["a"].to_pylist()
    return table["a"].to_list()


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("container", BUILD)
def test_ids_as_categories(container, ends):
    ids = [*(ENDS[ends] * 20), None]
    X = BUILD[container](ids, X0)
    model = VAEImputer(categorical_features=[0], **SHORT).fit(X)
    assert model._encoder.columns_[0].categories == sorted(ENDS[ends])
    for table in (
        model.transform(X),
        *model.sample(X, 2, random_state=0),
        *model.predict_interval(X),
    ):
        assert first_column(table)[:-1] == ids[:-1]
        assert first_column(table)[-1] in ENDS[ends]
        assert type(first_column(table)[-1]) is int
    drawn = VAETransformer(categorical_features=[0], **SHORT).fit(X).sample(30, 0)
    assert set(first_column(drawn)) <= set(ENDS[ends])
    model = VAEClassifier(categorical_features=[0], **SHORT).fit(X, np.arange(41) % 2)
    assert set(first_column(model.sample(30, random_state=0)[0])) <= set(ENDS[ends])


@pytest.mark.parametrize("value", [2**53 + 1, -(2**63), 2**63 - 1, 2**64 - 1])
@pytest.mark.parametrize("container", ["numpy", "pandas", "polars", "pyarrow"])
def test_constants(container, value):
    X = BUILD[container]([value] * 40 + [None], X0)
    model = VAEImputer(**SHORT).fit(X)
    for table in (model.transform(X), *model.sample(X, 1), *model.predict_interval(X)):
        assert first_column(table) == [value] * 41
    drawn = VAETransformer(**SHORT).fit(X).sample(3, random_state=0)
    assert first_column(drawn) == [value] * 3


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("container", ["numpy", "pandas", "polars", "pyarrow"])
def test_repeated_values(container, ends):
    values = [*(ENDS[ends] * 20), None]
    X = BUILD[container](values, X0)
    model = VAEImputer(**SHORT).fit(X)
    support = model._encoder.columns_[0].support
    assert support.tolist() == sorted(ENDS[ends]) and support.dtype.kind in "iu"
    for table in model.sample(X, 3, random_state=0):
        assert first_column(table)[:-1] == values[:-1]
        assert first_column(table)[-1] in ENDS[ends]
    assert first_column(model.transform(X))[:-1] == values[:-1]
    drawn = VAETransformer(**SHORT).fit(X).sample(30, random_state=0)
    assert set(first_column(drawn)) <= set(ENDS[ends])


def test_integers_that_differ_in_the_last_place_are_no_constant():
    X = BUILD["pandas"]([*(ENDS["beyond floats"] * 20), None], X0)
    column = VAETransformer(**SHORT).fit(X)._encoder.columns_[0]
    assert column.constant is None


def test_integers_that_no_dtype_holds_are_refused():
    X = np.array([[2**70 + k, k] for k in range(20)], dtype=object)
    with pytest.raises(ValueError, match=r"Column 'x0'.*integers beyond 64 bits"):
        VAETransformer(**SHORT).fit(X)
    drawn = VAETransformer(categorical_features=[0], **SHORT).fit(X).sample(5, 0)
    assert set(drawn[:, 0]) <= set(X[:, 0])


class TestObjects:
    """Integers with gaps in an object array are a column of integers."""

    values = [*range(100, 140), None]  # noqa: RUF012

    def test_draws_and_estimates_are_integers(self):
        X = BUILD["numpy"](self.values, X0)
        model = VAEImputer(**SHORT).fit(X)
        for table in (
            model.transform(X),
            *model.sample(X, 2),
            *model.predict_interval(X),
        ):
            assert [type(value) for value in first_column(table)] == [int] * 41
            assert table[:-1].tolist() == X[:-1].tolist()

    @pytest.mark.parametrize("other", ["pandas", "polars", "pyarrow", "pandas-object"])
    def test_other_tables_of_the_same_integers(self, other):
        arrays = [BUILD[name](self.values, X0) for name in ("numpy", other)]
        with pytest.warns(UserWarning, match="feature names"):
            filled = VAEImputer(**SHORT).fit(arrays[0]).transform(arrays[1])
        column = nw.from_native(filled, eager_only=True)[:, 0].to_list()
        assert column[:-1] == self.values[:-1]
        assert column[-1] == round(column[-1])


WHOLE = {
    "numpy": lambda a: np.array(a, dtype=float),
    "numpy32": lambda a: np.array(a, dtype=np.float32),
    "pandas": lambda a: pd.DataFrame(a, columns=["a", "b"]),
    "Float64": lambda a: pd.DataFrame(a, columns=["a", "b"]).astype("Float64"),
    "polars": lambda a: pl.DataFrame(a, schema=["a", "b"], orient="row").fill_nan(None),
    "pyarrow": lambda a: pa.table(
        {name: pa.array(a[:, k], from_pandas=True) for k, name in enumerate("ab")}
    ),
}


def numbers(table):
    if isinstance(table, np.ndarray):
        return np.asarray(table, dtype=float)
    frame = table.to_pandas() if not hasattr(table, "iloc") else table
    return frame.to_numpy(dtype=float)


@pytest.mark.parametrize("container", WHOLE)
def test_whole_numbers_that_are_floats(container):
    a = np.column_stack([np.arange(60.0) * 7 - 100, RNG.normal(size=60)])
    gaps = a.copy()
    gaps[::6, 0] = np.nan
    X = WHOLE[container](gaps)
    model = VAEImputer(**SHORT).fit(X)
    for table in (*model.sample(X, 2, random_state=0), *model.predict_interval(X)):
        column = numbers(table)[:, 0]
        assert (column == np.rint(column)).all()
    means = numbers(model.transform(X))[:, 0]
    assert (means[::6] != np.rint(means[::6])).all()
    model = VAETransformer(**SHORT).fit(X)
    column = numbers(model.sample(20, 0))[:, 0]
    assert (column == np.rint(column)).all()
    # of the mean of the latents it is that of the column, which is whole
    means = numbers(model.inverse_transform(np.full((1, model.n_components_), 0.3)))
    assert means[0, 0] != round(means[0, 0])
    model = VAEClassifier(**SHORT).fit(X, np.arange(60) % 2)
    column = numbers(model.sample(20, random_state=0)[0])[:, 0]
    assert (column == np.rint(column)).all()


@pytest.mark.parametrize("dtype", [float, np.float32, int])
def test_whole_outputs(dtype):
    X = RNG.normal(size=(60, 2))
    y = (np.arange(60) * 7).astype(dtype)
    model = VAERegressor(**SHORT).fit(X, y)
    for values in (*model.sample(X, 3, random_state=0), *model.predict_interval(X)):
        assert (values == np.rint(values)).all()
    mean = model.predict(X)
    assert (mean != np.rint(mean)).all()
    if dtype is not int:
        for options in ({"temperature": 0.0}, {"add_noise": False}):
            draws = model.sample(X, random_state=0, **options)
            assert (draws != np.rint(draws)).any()
    halves = model.fit(X, y.astype(float) + 0.5).sample(X, random_state=0)
    assert (halves != np.rint(halves)).any()
