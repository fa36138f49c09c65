"""VAEImputer on data frames: dtypes, labels, markers and indicators of each library."""

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
import pytest
from imputed_cells import assert_observed_stay, cells, imputer
from mixed_tables import CONTAINERS, schema


def test_frames(mixed):
    model = imputer().fit(mixed)
    filled = model.transform(mixed)
    assert type(filled) is type(mixed)
    assert schema(filled) == schema(mixed)
    assert_observed_stay(mixed, filled)
    rows = cells(filled)
    assert set(rows[:, 1]) == {"Biscoe", "Dream", "Torgersen"}
    assert set(rows[:, 2]) == {"low", "mid", "high"}


def test_frames_are_not_modified(mixed_table):
    for container in CONTAINERS:
        X, same = mixed_table(container), mixed_table(container)
        model = imputer(add_indicator=True).fit(X)
        model.transform(X)
        model.sample(X, 1)
        model.predict_interval(X)
        assert cells(X).tolist() == cells(same).tolist()
        assert schema(X) == schema(same)


def test_libraries_agree(mixed_table):
    tables = [mixed_table(container) for container in CONTAINERS]
    filled = [cells(imputer().fit_transform(X)) for X in tables]
    assert filled[0].tolist() == filled[1].tolist() == filled[2].tolist()


@pytest.mark.parametrize("trained", CONTAINERS)
@pytest.mark.parametrize("given", CONTAINERS)
def test_trained_on_one_library_and_given_another(mixed_table, trained, given):
    model = imputer().fit(mixed_table(trained))
    X = mixed_table(given)
    filled = model.transform(X)
    assert type(filled) is type(X)
    assert schema(filled) == schema(X)
    assert cells(filled).tolist() == cells(model.transform(mixed_table())).tolist()


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
def test_frames_and_arrays_together(holes):
    frame = pd.DataFrame(holes, columns=list("abcde"), index=range(80, 0, -1))
    of_array, of_frame = imputer().fit(holes), imputer().fit(frame)
    filled = of_array.transform(frame)
    # the model knows no other names
    assert filled.columns.tolist() == of_array.get_feature_names_out().tolist()
    assert filled.index.equals(frame.index)
    np.testing.assert_array_equal(filled, of_array.transform(holes))
    array = of_frame.transform(holes)
    assert isinstance(array, np.ndarray)
    np.testing.assert_array_equal(array, of_frame.transform(frame))


def test_pandas_index_and_labels(holes):
    index = pd.MultiIndex.from_product([range(8), range(10)], names=["a", "b"])
    X = pd.DataFrame(holes, index=index, columns=[7, 3, 5, 1, 9])
    X.columns.name = "measure"
    filled = imputer().fit_transform(X)
    assert filled.index.equals(index)
    assert filled.columns.equals(X.columns)
    assert filled.columns.name == "measure"


def test_nullable_dtypes_of_pandas():
    rng = np.random.default_rng(0)
    level = rng.normal(size=60)
    X = pd.DataFrame(
        {
            "Int64": (100 * level).astype(int),
            "UInt8": rng.poisson(np.exp(1 + 0.3 * level)),
            "Float32": level + rng.normal(size=60),
            "boolean": level > 0,
        }
    )
    X = X.astype({name: name for name in X.columns})
    X["string"] = pd.Series(np.where(level > 0.5, "a", "b"), dtype="string")
    for place in range(5):
        X.iloc[place::7, place] = pd.NA
    model = imputer().fit(X)
    filled = model.transform(X)
    pd.testing.assert_series_equal(filled.dtypes, X.dtypes)
    assert_observed_stay(X, filled)
    assert model.likelihood_["UInt8"] == "poisson"


def test_set_output(holes, mixed_table):
    pd, pl = pytest.importorskip("pandas"), pytest.importorskip("polars")
    wanted = {"pandas": pd.DataFrame, "polars": pl.DataFrame}
    inputs = [holes, *(mixed_table(container) for container in CONTAINERS)]
    for X in inputs:
        model = imputer(add_indicator=True).fit(X)
        default = model.transform(X)
        for library, class_ in wanted.items():
            filled = model.set_output(transform=library).transform(X)
            assert isinstance(filled, class_)
            assert list(filled.columns) == model.get_feature_names_out().tolist()
            if isinstance(X, np.ndarray):
                np.testing.assert_array_equal(filled.to_numpy(), default)
            else:
                assert cells(filled).tolist() == cells(default).tolist()
    frame = mixed_table()
    frame.index = range(60, 120)
    filled = imputer().set_output(transform="pandas").fit_transform(frame)
    assert filled.index.equals(frame.index)
    assert filled["island"].dtype == frame["island"].dtype


# -- which cells, rows and columns are there -----------------------------------------


def test_empty_columns_of_frames(mixed):
    """The column goes, or one value stands in it; the others are filled alike."""
    names = list(nw.from_native(mixed).columns)
    for position, name in enumerate(names):
        frame = nw.from_native(mixed).with_columns(
            nw.when(nw.col(name) != nw.col(name)).then(nw.col(name)).alias(name)
        )
        with pytest.warns(UserWarning, match=f"dropped: '{name}'"):
            dropped = nw.from_native(imputer().fit_transform(frame.to_native()))
        assert list(dropped.columns) == [other for other in names if other != name]
        keeping = imputer(keep_empty_features=True)
        filled = nw.from_native(keeping.fit_transform(frame.to_native()))
        assert list(filled.columns) == names
        rows = cells(filled)
        assert len(set(rows[:, position])) == 1
        others = np.delete(rows, position, axis=1)
        np.testing.assert_array_equal(others, cells(dropped))
        assert not (rows == np.array(None)).any()


@pytest.mark.parametrize("container", CONTAINERS)
def test_unseen_categories(mixed_table, container):
    model = imputer().fit(mixed_table())
    pytest.importorskip(container)
    X = mixed_table("pandas").astype({"island": object, "size": object})
    X.loc[3, "island"] = "Atlantis"
    X = X.astype({"island": "string", "size": "string"})
    if container == "polars":
        X = pytest.importorskip("polars").from_pandas(X)
    elif container == "pyarrow":
        X = pytest.importorskip("pyarrow").Table.from_pandas(X)
    with pytest.warns(UserWarning, match="'island': 'Atlantis'"):
        filled = model.transform(X)
    assert_observed_stay(X, filled)
    assert cells(filled)[3, 1] == "Atlantis"
    # for the others it is a missing cell
    known = mixed_table()
    known.loc[3, "island"] = None
    score = model.score_samples(known)[3]
    with pytest.warns(UserWarning, match="Atlantis"):
        assert model.score_samples(X)[3] == pytest.approx(score, abs=1e-5)


# -- markers -------------------------------------------------------------------------


@pytest.mark.parametrize("container", CONTAINERS)
def test_markers_in_text(mixed_table, container):
    frame = nw.from_native(mixed_table(container))
    text = frame["island"].cast(nw.String)
    plain = frame.with_columns(text.alias("island")).to_native()
    marked = frame.with_columns(text.fill_null("?").alias("island")).to_native()
    model = imputer(missing_values="?").fit(marked)
    filled = model.transform(marked)
    assert cells(filled).tolist() == cells(imputer().fit_transform(plain)).tolist()
    assert schema(filled) == schema(marked)


# -- indicators and names ------------------------------------------------------------


def test_indicators_of_frames(mixed):
    model = imputer(add_indicator=True).fit(mixed)
    filled = nw.from_native(model.transform(mixed), eager_only=True)
    names = ["mass", "island", "size", "flag", "visits"]
    flags = [f"missingindicator_{name}" for name in names[:4]]
    assert filled.columns == names + flags
    assert model.get_feature_names_out().tolist() == names + flags
    before = cells(mixed)
    for place, name in enumerate(flags):
        assert filled[name].dtype == nw.Boolean
        missing = before[:, place] == np.array(None)
        assert filled[name].to_list() == missing.tolist()
    for table in (*model.sample(mixed, 1), *model.predict_interval(mixed)):
        assert nw.from_native(table).columns == names + flags


def test_indicators_of_a_resumed_fit_are_of_missing_cells():
    """A category that training did not see counts as missing, but is there."""
    first = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0] * 5, "b": list("xyxy") * 5})
    second = first.replace({"b": {"y": "z"}})
    second.loc[0, "a"] = np.nan
    model = imputer(warm_start=True, add_indicator=True).fit(first)
    with pytest.warns(UserWarning, match="'z'"):
        model.fit(second)
    assert model.indicator_features_.tolist() == [0]
