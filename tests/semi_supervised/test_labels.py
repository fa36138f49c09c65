"""Labels keep their type, whatever holds them; rows without one are told apart."""

import warnings
from datetime import date

import numpy as np
import pytest

from skvae import VAEClassifier
from skvae._semi_supervised.labels import (
    codes_of,
    encode_labels,
    is_labelled,
    read_labels,
    warn_of_lost_class,
)
from skvae._tables.values import is_missing

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

X = np.random.default_rng(0).normal(size=(40, 3))
SHORT = {"max_iter": 1, "hidden_layer_sizes": (4,), "random_state": 0}


def encoded(y):
    classes, codes = encode_labels(*read_labels(y, None))
    return classes, codes.tolist()


WORDS = ["b", "a", "b", "nan"]
NUMBERS = [2**53 + 1, 2**53, 2**53 + 1, 7]
FLAGS = [True, False, True, False]
DAYS = [date(2020, 1, 2), date(2020, 1, 1), date(2020, 1, 2), date(2021, 1, 1)]

COLUMNS = {
    "list": lambda values: values,
    "objects": lambda values: np.array(values, dtype=object),
    "pandas": pd.Series,
    "pandas-object": lambda values: pd.Series(values, dtype=object),
    "pandas-category": lambda values: pd.Series(pd.Categorical(values)),
    "pandas-categorical": pd.Categorical,
    "pandas-index": lambda values: pd.Index(values, dtype=object),
    "polars": pl.Series,
    "pyarrow": pa.array,
    "pyarrow-chunks": lambda values: pa.chunked_array(
        [pa.array(values[:2], pa.array(values).type), pa.array(values[2:])]
    ),
    "pyarrow-dictionary": lambda values: pa.array(values).dictionary_encode(),
    "pandas-arrow": lambda values: pd.Series(
        pd.arrays.ArrowExtensionArray(pa.array(values))
    ),
    "pandas-arrow-dictionary": lambda values: pd.Series(
        pd.arrays.ArrowExtensionArray(pa.array(values).dictionary_encode())
    ),
}


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("container", COLUMNS)
@pytest.mark.parametrize(
    ("values", "dtype", "kind"),
    [(WORDS, object, "O"), (NUMBERS, "int64", "i"), (FLAGS, "bool", "b")],
    ids=["text", "integers", "booleans"],
)
def test_labels_keep_their_type(container, values, dtype, kind, gap):
    if gap and container == "pandas" and kind != "O":
        dtype = {"i": "Int64", "b": "boolean"}[kind]
        y = pd.Series([*values, None], dtype=dtype)
    else:
        y = COLUMNS[container]([*values, None] if gap else values)
    classes, codes = encoded(y)
    assert classes.tolist() == sorted(set(values))
    assert classes.dtype.kind in (kind, "U" if kind == "O" else kind)
    assert codes == [sorted(set(values)).index(v) for v in values] + [-1] * gap
    assert {type(label) for label in classes.tolist()} == {type(values[0])}


LARGE = [2**63 + 5, None, 2**63 + 6]
TYPED = [
    (pd.Series([1, None, 3], dtype="Int8"), "int8"),
    (pd.Series(LARGE, dtype="UInt64"), "uint64"),
    (pd.Series([1, None, 2], dtype="Float32"), "float32"),
    (pd.Series(["a", None, "b"], dtype="string"), object),
    (pd.Series(["a", None, "b"], dtype="str"), object),
    (pd.Series(["a", None, "b"], dtype=pd.ArrowDtype(pa.string_view())), object),
    (pl.Series([1, None, 3], dtype=pl.UInt8), "uint8"),
    (pl.Series(LARGE, dtype=pl.UInt64), "uint64"),
    (pl.Series(["a", None, "b"], dtype=pl.Categorical), object),
    (pl.Series(["a", None, "b"], dtype=pl.Enum(["b", "a"])), object),
    (pa.array([1, None, 3], pa.int16()), "int16"),
    (pa.array(LARGE, pa.uint64()), "uint64"),
    (pa.array(["a", None, "b"], pa.large_string()), object),
    (pa.array(["a", None, "b"], pa.string_view()), object),
    (pa.array(["a", None, "b"], pa.string_view()).dictionary_encode(), object),
    (np.array(LARGE, dtype=object), "uint64"),
    (np.array([1, 0, 3], dtype=np.uint8), "uint8"),
]


@pytest.mark.parametrize(("y", "dtype"), TYPED)
def test_labels_with_gaps_keep_their_dtype(y, dtype):
    classes, codes = encoded(y)
    cells = [getattr(value, "as_py", lambda v=value: v)() for value in y]
    known = [value for value in cells if not is_missing(value)]
    assert classes.tolist() == sorted(known)
    assert [code < 0 for code in codes] == [is_missing(value) for value in cells]
    assert classes.dtype == dtype


def test_dates_are_labels():
    stamps = pd.Series(pd.to_datetime(DAYS))
    for y in (
        np.array(DAYS, dtype="datetime64[D]"),
        stamps,
        stamps.astype("category"),
        pl.Series(DAYS),
        pa.array(DAYS),
    ):
        classes, codes = encoded(y)
        assert classes.dtype.kind == "M"
        assert classes.astype("M8[D]").tolist() == sorted(set(DAYS))
        assert codes == [1, 0, 1, 2]
    days, seconds = (np.array(DAYS, dtype=f"M8[{unit}]") for unit in "Ds")
    assert codes_of(seconds, np.unique(days)).tolist() == [1, 0, 1, 2]


def test_nan_in_an_array_of_text_is_no_label():
    y = np.array(["a", np.nan, "b", "a"])
    assert y.dtype.kind == "U"
    with pytest.warns(UserWarning, match=r"array of text that holds 'nan'.*dtype=obj"):
        classes, codes = encoded(y)
    assert classes.tolist() == ["a", "b"] and codes == [0, -1, 1, 0]
    # where NaN has a form of its own, "nan" is a word
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for words in (
            ["a", "nan"],
            np.array(["a", "nan", np.nan], dtype=object),
            pd.Series(["a", "nan", None]),
            pl.Series(["a", "nan", None]),
            pa.array(["a", "nan", None]),
        ):
            assert encoded(words)[0].tolist() == ["a", "nan"]


def test_marks():
    for y in ([-1, 0, 1], [-1.0, 0.0, 1.0], pd.Series([-1, 0, 1], dtype="Int8")):
        assert is_labelled(*read_labels(y, None)).tolist() == [False, True, True]
    for y in (["-1", "0"], [True, False], np.array([255, 0], dtype=np.uint8)):
        assert is_labelled(*read_labels(y, None)).all()


@pytest.mark.parametrize("y", [[-1, 1, 1], [-1.0, 1.0, np.nan], np.array([1, -1])])
def test_labels_that_are_the_mark_and_one_warn(y):
    y = np.tile(y, 40)[: len(X)]
    with pytest.warns(UserWarning, match=r"-1 and 1 alone.*such as 0 and 1") as record:
        model = VAEClassifier(**SHORT).fit(X, y)
    assert len(record) == 1 and record[0].filename == __file__
    assert model.classes_.tolist() == [1]


@pytest.mark.parametrize(
    "y",
    [
        [-1, 0, 1],
        [-1, 2],
        [1, 1],
        [-1.0, 0.5],
        [True, False],
        ["-1", "1"],
        [-1, 1, 3],
        [None, 1],
    ],
)
def test_other_labels_do_not_warn(y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_lost_class(*read_labels(np.array(y * 3), None))


@pytest.fixture(scope="module")
def model():
    return VAEClassifier(**SHORT).fit(X, np.arange(40) % 3)


class TestScore:
    """Accuracy on the rows with a label."""

    def test_rows_without_a_label_do_not_count(self, model):
        truth = np.arange(40) % 3
        hits = model.predict(X) == truth
        some = np.arange(40) % 4 == 0
        expected = hits[~some].mean()
        objects = np.where(some, None, truth)
        for y in (
            np.where(some, -1, truth),
            np.where(some, np.nan, truth),
            objects,
            pd.Series(objects, dtype="Int64"),
            pl.Series(objects.tolist()),
            pa.array(objects.tolist()),
        ):
            assert model.score(X, y) == expected
        weights = np.arange(40.0)
        found = model.score(X, np.where(some, -1, truth), weights)
        assert found == np.average(hits[~some], weights=weights[~some])
        assert model.score(X, truth) == hits.mean()

    def test_labels_that_are_no_class_are_errors(self, model):
        truth = np.arange(40) % 3
        hits = (model.predict(X) == truth) & (truth < 2)
        assert model.score(X, np.where(truth < 2, truth, 9)) == hits.mean()

    def test_nothing_to_score(self, model):
        with pytest.raises(ValueError, match="no label of positive weight"):
            model.score(X, np.full(40, -1))
        with pytest.raises(ValueError, match="no label of positive weight"):
            y = np.where(np.arange(40) < 20, 1, -1)
            model.score(X, y, (y < 0).astype(float))
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            model.score(X, [0, 1])
        with pytest.raises(ValueError, match="give labels of their kind"):
            model.score(X, ["a"] * 40)
        with pytest.raises(ValueError, match="requires y to be passed"):
            model.score(X, None)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_classes_to_sample_from_a_column(library):
    names = pl.Series(["b", None, "a"] * 13 + ["a"])
    model = VAEClassifier(**SHORT).fit(X, names)
    build = {"pandas": pd.Series, "polars": pl.Series, "pyarrow": pa.array}[library]
    _, found = model.sample(y=build(["b", "a"]), random_state=0)
    assert found.tolist() == ["b", "a"]
    Z = np.zeros((2, model.n_components_))
    assert len(model.decode(Z, build(["b", "a"]))) == 2
    with pytest.raises(ValueError, match="y holds None, which is none of the classes"):
        model.sample(y=build(["b", None]))
    with pytest.raises(ValueError, match="y holds 'c', which is none of the classes"):
        model.sample(y=build(["b", "c"]))
