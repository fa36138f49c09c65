import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mixed_tables import CONTAINERS
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from skvae._tables.values import is_missing
from skvae.datasets import ampute, load_penguins

NUMERIC = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]


def test_penguins_as_frame():
    pd = pytest.importorskip("pandas")
    penguins = load_penguins()
    assert penguins.data.shape == (344, 6)
    assert list(penguins.data.columns) == penguins.feature_names
    assert penguins.frame.shape == (344, 7)
    assert all(penguins.data[name].dtype == np.float64 for name in NUMERIC)
    for name in ["island", "sex", "species"]:
        assert isinstance(penguins.frame[name].dtype, pd.CategoricalDtype)
    assert penguins.data.isna().sum().tolist() == [0, 2, 2, 2, 2, 11]
    # known totals of the published table
    assert penguins.target.value_counts().to_dict() == {
        "Adelie": 152,
        "Gentoo": 124,
        "Chinstrap": 68,
    }
    assert penguins.data["body_mass_g"].mean() == pytest.approx(4201.754, abs=1e-3)


def test_penguins_as_arrays_hold_the_same_cells():
    pytest.importorskip("pandas")
    arrays = load_penguins(as_frame=False)
    frames = load_penguins()
    assert arrays.frame is None
    assert arrays.data.dtype == object
    assert arrays.target.tolist() == frames.target.tolist()
    assert arrays.target_names.tolist() == frames.target_names.tolist()
    missing = frames.data.isna().to_numpy()
    assert all(np.isnan(cell) for cell in arrays.data[missing])
    expected = frames.data.astype(object).to_numpy()
    assert (arrays.data[~missing] == expected[~missing]).all()


@pytest.mark.parametrize("as_frame", [False, True])
def test_penguins_return_X_y(as_frame):
    if as_frame:
        pytest.importorskip("pandas")
    penguins = load_penguins(as_frame=as_frame)
    X, y = load_penguins(return_X_y=True, as_frame=as_frame)
    assert type(X) is type(penguins.data)
    assert X.shape == (344, 6)
    assert list(y) == list(penguins.target)


def test_penguins_are_fresh_at_each_call():
    first = load_penguins(as_frame=False)
    first.data[0, 0] = "nowhere"
    assert load_penguins(as_frame=False).data[0, 0] == "Torgersen"


def test_penguins_without_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert load_penguins(as_frame=False).data.shape == (344, 6)
    with pytest.raises(ImportError, match="pip install pandas"):
        load_penguins()


def test_penguins_description_cites_its_sources():
    description = load_penguins(as_frame=False).DESCR
    assert "Gorman" in description
    assert "Horst" in description
    assert "CC0" in description


# ---------------------------------------------------------------------------
# ampute
# ---------------------------------------------------------------------------
MECHANISMS = ["mcar", "mar", "mnar"]


def correlated_numbers(n_rows=20_000, n_columns=4):
    rng = np.random.default_rng(0)
    common = rng.normal(size=(n_rows, 1))
    return common + rng.normal(size=(n_rows, n_columns))


def missing_cells(table):
    """Missing cells of any table."""
    kind = type(table).__module__.split(".")[0]
    if kind == "pandas":
        return table.isna().to_numpy()
    if kind == "polars":
        return table.select(column.is_null() for column in table).to_numpy()
    if kind == "pyarrow":
        return np.stack([column.is_null().to_numpy() for column in table.columns], 1)
    return np.array([[is_missing(cell) for cell in row] for row in table])


def cells(table):
    """Rows of any table as Python values, None where a cell is missing."""
    if isinstance(table, np.ndarray):
        rows = table.tolist()
    elif type(table).__module__.startswith("pandas"):
        rows = table.astype(object).to_numpy().tolist()
    elif type(table).__module__.startswith("polars"):
        rows = [list(row) for row in table.rows()]
    else:
        rows = [list(row.values()) for row in table.to_pylist()]
    missing = missing_cells(table)
    return [
        [None if gone else cell for cell, gone in zip(row, mask, strict=True)]
        for row, mask in zip(rows, missing, strict=True)
    ]


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.8])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_ampute_hides_the_asked_share_of_every_column(mechanism, rate):
    X = correlated_numbers()
    X[:, 0] = np.exp(2 * X[:, 0])
    X[:, 1] = X[:, 1] > 0.5
    hidden = np.isnan(ampute(X, mechanism, rate, random_state=0))
    shares = hidden.mean(axis=0)
    if mechanism == "mar":
        assert (shares == 0).sum() == 1
        shares = shares[shares > 0]
    # four standard errors
    error = 4 * np.sqrt(rate * (1 - rate) / len(X))
    np.testing.assert_allclose(shares, rate, atol=error)


@pytest.mark.parametrize("n_columns", [2, 3, 5, 6, 11])
def test_mar_keeps_a_third_of_the_columns(n_columns):
    X = correlated_numbers(200, n_columns)
    kept = [
        ~np.isnan(ampute(X, "mar", random_state=seed)).any(axis=0) for seed in range(20)
    ]
    assert (np.sum(kept, axis=1) == max(1, n_columns // 3)).all()
    assert len({tuple(columns) for columns in kept}) > 1, "always the same columns"


def test_mcar_depends_on_nothing():
    X = correlated_numbers()
    hidden = np.isnan(ampute(X, random_state=0))
    association = np.corrcoef(X, hidden, rowvar=False)
    np.fill_diagonal(association, 0)
    with_masks = association[4:]
    assert np.abs(with_masks).max() < 4 / np.sqrt(len(X))


def test_mar_depends_on_the_kept_columns_alone():
    X = correlated_numbers()
    hidden = np.isnan(ampute(X, "mar", random_state=0))
    kept = ~hidden.any(axis=0)
    (cause,) = X[:, kept].T
    strength = []
    for column in np.flatnonzero(~kept):
        mask = hidden[:, column]
        strength.append(np.corrcoef(cause, mask)[0, 1])
        # what the cause does not explain is alike in hidden and visible cells
        slope, intercept = np.polyfit(cause, X[:, column], 1)
        residual = X[:, column] - intercept - slope * cause
        assert abs(np.corrcoef(residual, mask)[0, 1]) < 4 / np.sqrt(len(X))
        # the cell's own value looks as if it mattered, through the cause
        assert abs(np.corrcoef(X[:, column], mask)[0, 1]) > 0.1
    assert np.abs(strength).min() > 0.3


def test_mar_has_coefficients_of_its_own_for_every_column():
    X = correlated_numbers(5000, 9)
    hidden = np.isnan(ampute(X, "mar", random_state=0))
    kept = ~hidden.any(axis=0)
    slopes = np.linalg.lstsq(X[:, kept], hidden[:, ~kept] - 0.3, rcond=None)[0]
    directions = slopes / np.linalg.norm(slopes, axis=0)
    cosines = directions.T @ directions
    assert np.abs(cosines[np.triu_indices(6, 1)]).min() < 0.5


def test_mar_reads_missing_cells_of_the_kept_column_as_its_mean():
    X = correlated_numbers(100_000, 2)
    blind = np.arange(len(X)) % 2 == 0
    X[blind, 0] = np.nan
    results = (ampute(X, "mar", random_state=seed) for seed in range(20))
    result = next(table for table in results if np.isnan(table[:, 1]).any())
    hidden = np.isnan(result[:, 1])
    assert hidden.mean() == pytest.approx(0.3, abs=0.01)
    near_the_mean = np.abs(X[:, 0] - np.nanmean(X[:, 0])) < 0.2
    assert hidden[blind].mean() == pytest.approx(hidden[near_the_mean].mean(), abs=0.02)
    assert hidden[blind].mean() != pytest.approx(hidden[~blind].mean(), abs=0.02)


def test_mnar_hides_large_numbers_by_the_logistic_curve():
    X = correlated_numbers()
    hidden = np.isnan(ampute(X, "mnar", random_state=0))
    for values, mask in zip(X.T, hidden.T, strict=True):
        model = LogisticRegression(C=np.inf).fit(
            StandardScaler().fit_transform(values[:, None]), mask
        )
        assert model.coef_.item() == pytest.approx(3, abs=0.2)


def test_mnar_is_unmoved_by_other_columns():
    rng = np.random.default_rng(0)
    own = rng.normal(size=20_000)
    X = np.column_stack([own, own + rng.normal(size=own.shape)])
    mask = np.isnan(ampute(X, "mnar", random_state=0)[:, 0])
    noise = X[:, 1] - own
    assert abs(np.corrcoef(noise, mask)[0, 1]) < 4 / np.sqrt(len(X))


@pytest.mark.parametrize("mechanism", ["mar", "mnar"])
def test_categories_have_a_share_of_their_own(mechanism):
    pd = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    letters = rng.choice(list("abcd"), 20_000)
    # under "mar" one of the two columns, which are the same, decides for the other
    X = pd.DataFrame({"text": letters, "category": pd.Categorical(letters)})
    hidden = missing_cells(ampute(X, mechanism, random_state=0)).any(axis=1)
    shares = pd.Series(hidden).groupby(letters).mean()
    assert shares.max() - shares.min() > 0.2


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_ampute_keeps_the_table(mixed_table, container, mechanism):
    X = mixed_table(container)
    before = cells(X)
    result = ampute(X, mechanism, random_state=1)
    assert type(result) is type(X)
    assert cells(X) == before, "the input was modified"
    hidden = missing_cells(result)
    assert hidden[missing_cells(X)].all()
    assert hidden.sum() > missing_cells(X).sum()
    for row, mask, row_before in zip(cells(result), hidden, before, strict=True):
        assert row == [
            None if gone else cell for cell, gone in zip(row_before, mask, strict=True)
        ]
    if container == "pandas":
        expected = X.dtypes.to_dict()
        if hidden[:, 4].any():
            expected["visits"] = np.dtype("float64")
        assert result.dtypes.to_dict() == expected
    else:
        assert result.schema == X.schema


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_ampute_hides_the_same_cells_in_every_container(mixed_table, mechanism):
    masks = [
        missing_cells(ampute(mixed_table(container), mechanism, random_state=5))
        for container in CONTAINERS
    ]
    objects = mixed_table("pandas").astype(object).to_numpy()
    masks.append(missing_cells(ampute(objects, mechanism, random_state=5)))
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_ampute_is_reproducible(mechanism):
    X = correlated_numbers(100)
    first = ampute(X, mechanism, random_state=0)
    np.testing.assert_array_equal(first, ampute(X, mechanism, random_state=0))
    state = np.random.RandomState(0)
    np.testing.assert_array_equal(first, ampute(X, mechanism, random_state=state))
    other = ampute(X, mechanism, random_state=state)
    assert (np.isnan(first) != np.isnan(other)).any()


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_share_is_that_of_the_observed_cells(mechanism):
    X = correlated_numbers()
    X[:8000, 1:] = np.nan
    missing = np.isnan(X)
    hidden = np.isnan(ampute(X, mechanism, 0.4, random_state=0)) & ~missing
    shares = hidden.sum(axis=0) / (~missing).sum(axis=0)
    shares = shares[shares > 0]
    np.testing.assert_allclose(shares, 0.4, atol=4 * np.sqrt(0.24 / 12_000))


def test_ampute_keeps_index_and_attributes_of_pandas():
    pd = pytest.importorskip("pandas")
    index = pd.MultiIndex.from_product([["a", "b"], range(5)], names=["one", "two"])
    X = pd.DataFrame(np.ones((10, 3)), index=index, columns=["x", 1, ("y", "z")])
    X.attrs["unit"] = "mm"
    result = ampute(X, "mcar", random_state=0)
    pd.testing.assert_index_equal(result.index, X.index)
    pd.testing.assert_index_equal(result.columns, X.columns)
    assert result.attrs == X.attrs


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("int8", "float64"),
        ("bool", "boolean"),
        ("float32", "float32"),
        ("Int16", "Int16"),
        ("Float32", "Float32"),
        ("boolean", "boolean"),
        ("object", "object"),
        ("string", "string"),
        ("int32[pyarrow]", "int32[pyarrow]"),
        ("bool[pyarrow]", "bool[pyarrow]"),
    ],
)
@pytest.mark.parametrize("mechanism", ["mcar", "mnar"])
def test_pandas_dtypes_after_ampute(dtype, expected, mechanism):
    pd = pytest.importorskip("pandas")
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    values = ["0", "1"] if dtype == "string" else [0, 1]
    X = pd.DataFrame({"x": pd.Series(values * 20).astype(dtype)})
    result = ampute(X, mechanism, random_state=0)
    assert result["x"].dtype == expected
    visible = result["x"].notna()
    assert 0 < visible.sum() < 40
    pd.testing.assert_series_equal(
        result["x"][visible], X["x"][visible].astype(expected)
    )
    assert all(X["x"].notna())


def test_kept_columns_keep_their_dtype():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(np.arange(40).reshape(20, 2), columns=["a", "b"])
    result = ampute(X, "mar", random_state=0)
    kept = result.notna().all()
    assert kept.sum() == 1
    assert (result.dtypes[kept] == X.dtypes[kept]).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.arange(40).reshape(20, 2), "float64"),
        (np.arange(40, dtype=np.uint8).reshape(20, 2), "float64"),
        (np.arange(40).reshape(20, 2) % 2 == 0, "float64"),
        (np.arange(40, dtype=np.float32).reshape(20, 2), "float32"),
        (np.array([["a", "b"]] * 20), "object"),
        (np.array([[1, "b"]] * 20, dtype=object), "object"),
        (np.arange(40).reshape(20, 2).tolist(), "float64"),
    ],
)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_array_dtypes_after_ampute(values, expected, mechanism):
    result = ampute(values, mechanism, random_state=0)
    assert result.dtype == expected
    hidden = missing_cells(result)
    assert 0 < hidden.sum() < 40
    assert all(np.isnan(cell) for cell in result[hidden])
    assert (result[~hidden] == np.asarray(values)[~hidden]).all()


def test_ampute_copies_an_array():
    X = correlated_numbers(50)
    before = X.copy()
    ampute(X, "mcar", random_state=0)[:] = 0
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_columns_that_are_constant_or_missing_altogether(mechanism):
    X = np.column_stack(
        [np.ones(2000), np.full(2000, np.nan), correlated_numbers(2000)]
    )
    result = ampute(X, mechanism, random_state=2)
    assert np.isnan(result[:, 1]).all()
    share = np.isnan(result[:, 0]).mean()
    assert share == 0 or share == pytest.approx(0.3, abs=0.05)


def test_arrow_columns_of_several_chunks():
    pa = pytest.importorskip("pyarrow")
    chunks = [pa.array(list(text)).dictionary_encode() for text in ("abab", "caca")]
    schema = pa.schema(
        [
            pa.field("x", pa.chunked_array(chunks).type, nullable=False),
            pa.field("y", pa.int64(), metadata={"unit": "mm"}),
        ],
        metadata={"source": "here"},
    )
    columns = [pa.chunked_array(chunks), pa.array(range(8))]
    X = pa.Table.from_arrays(columns, schema=schema)
    result = ampute(X, "mnar", 0.5, random_state=0)
    hidden = missing_cells(result)
    assert hidden.any(axis=0).all()
    assert [row[0] for row in cells(result)] == [
        None if gone else letter
        for letter, gone in zip("ababcaca", hidden[:, 0], strict=True)
    ]
    assert result.schema.metadata == schema.metadata
    assert result.schema.field("y").metadata == schema.field("y").metadata
    assert result.schema.field("x").nullable


@given(
    seed=st.integers(0, 2**32 - 1),
    mechanism=st.sampled_from(MECHANISMS),
    rate=st.floats(0.01, 0.99),
    shape=st.tuples(st.integers(1, 20), st.integers(2, 5)),
)
def test_observed_cells_are_served_as_they_came(seed, mechanism, rate, shape):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=shape)
    X[rng.random(shape) < 0.2] = np.nan
    result = ampute(X, mechanism, rate, random_state=seed)
    assert np.isnan(result[np.isnan(X)]).all()
    visible = ~np.isnan(result)
    np.testing.assert_array_equal(result[visible], X[visible])


def test_a_higher_rate_hides_more_of_the_same_cells():
    X = correlated_numbers(200)
    low, high = (np.isnan(ampute(X, rate=r, random_state=0)) for r in (0.2, 0.5))
    assert high[low].all()
    assert high.sum() > low.sum()


def test_mar_needs_two_columns():
    with pytest.raises(ValueError, match='Add a column, or use "mcar" or "mnar"'):
        ampute(np.ones((5, 1)), "mar")


@pytest.mark.parametrize(
    "parameters",
    [{"mechanism": "MCAR"}, {"rate": 0}, {"rate": 1.0}, {"rate": 30}, {"rate": "few"}],
)
def test_ampute_refuses_bad_parameters(parameters):
    with pytest.raises(ValueError, match="parameter of ampute must be"):
        ampute(np.ones((5, 2)), **parameters)


@pytest.mark.parametrize("mechanism", ["mar", "mnar"])
def test_ampute_names_the_column_that_it_cannot_order(mechanism):
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame({"x": [1.0, 2.0], "day": pd.to_datetime(["2020", "2021"])})
    with pytest.raises(ValueError, match=r"'day' has the dtype datetime64.*mcar"):
        ampute(X, mechanism)
    assert ampute(X, "mcar", random_state=0)["day"].dtype == X["day"].dtype
    X = pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, np.inf]})
    with pytest.raises(ValueError, match=r"'y' holds infinite values"):
        ampute(X, mechanism)


def test_ampute_refuses_a_lazy_frame():
    pl = pytest.importorskip("polars")
    with pytest.raises(TypeError, match="collect"):
        ampute(pl.LazyFrame({"x": [1, 2]}))
