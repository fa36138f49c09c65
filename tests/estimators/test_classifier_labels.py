"""VAEClassifier: labels and tables of every kind, some labels unknown."""

import pickle
import warnings

import numpy as np
import pytest
from short_classifiers import OBJECTIVES, SHORT
from sklearn import config_context
from sklearn.exceptions import DataConversionWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skvae import VAEClassifier
from skvae._semi_supervised.labels import declared_classes, encode_labels, read_labels


def labelled_table(mixed_table, container="pandas"):
    X = mixed_table(container)
    y = np.where(np.arange(60) % 3 == 0, np.arange(60) % 2, -1)
    return X, y


# -- labels --------------------------------------------------------------------------


@pytest.mark.parametrize("names", [["b", "a", "c"], [7, 3, 9], [True, False, True]])
@pytest.mark.parametrize("missing", [None, np.nan])
def test_labels_of_any_kind(blobs, names, missing):
    X, few, _ = blobs
    labels = np.array([missing if k < 0 else names[k] for k in few], dtype=object)
    vae = VAEClassifier(**SHORT).fit(X, labels)
    assert vae.classes_.tolist() == sorted(set(names))
    assert type(vae.predict(X).tolist()[0]) is type(names[0])
    assert (vae.classes_.dtype == object) == isinstance(names[0], str)
    assert vae.n_labelled_ == 6
    codes = [vae.classes_.tolist().index(names[k]) for k in (0, 1, 2)]
    expected = np.bincount(codes, minlength=len(vae.classes_)) / 3
    np.testing.assert_allclose(vae.class_prior_, expected)


def test_marks_of_no_label():
    for y in (
        [2, -1, 5],
        [2.0, -1.0, 5.0],
        [2.0, np.nan, 5.0],
        np.array([2, None, 5], dtype=object),
        np.array([2, -1, 5], dtype=object),
    ):
        classes, codes = encode_labels(*read_labels(np.asarray(y), None))
        assert classes.tolist() == [2, 5] and codes.tolist() == [0, -1, 1]
    classes, codes = encode_labels(*read_labels(np.array(["x", "-1"]), None))
    assert classes.tolist() == ["-1", "x"] and codes.tolist() == [1, 0]
    classes, codes = encode_labels(
        *read_labels(np.array([200, 255], dtype=np.uint8), None)
    )
    assert codes.tolist() == [0, 1]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_labels_from_a_column(blobs, library):
    X, few, _ = blobs
    names = [None if k < 0 else "abc"[k] for k in few]
    module = pytest.importorskip(library)
    column = module.array(names) if library == "pyarrow" else module.Series(names)
    vae = VAEClassifier(**SHORT).fit(X, column)
    reference = VAEClassifier(**SHORT).fit(X, np.array(names, dtype=object))
    assert vae.classes_.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(vae.predict_proba(X), reference.predict_proba(X))


def test_nullable_integers(blobs):
    pd = pytest.importorskip("pandas")
    X, few, _ = blobs
    column = pd.array([None if k < 0 else k for k in few], dtype="Int64")
    vae = VAEClassifier(**SHORT).fit(X, pd.Series(column))
    assert vae.classes_.tolist() == [0, 1, 2] and vae.n_labelled_ == 6


def test_a_class_without_any_label(blobs):
    pd = pytest.importorskip("pandas")
    X, few, _ = blobs
    names = pd.Categorical.from_codes(few, ["a", "b", "c"])
    assert declared_classes(pd.Series(names)) == ["a", "b", "c"]
    vae = VAEClassifier(**SHORT).fit(X, pd.Series(names))
    assert vae.classes_.tolist() == ["a", "b", "c"]
    unseen = pd.Series(names.add_categories("d"))
    with pytest.raises(ValueError, match="No row is labelled 'd'"):
        vae.fit(X, unseen)


def test_a_single_label(blobs):
    X, _, _ = blobs
    for objective in OBJECTIVES:
        y = np.full(120, -1)
        y[4] = 7
        vae = VAEClassifier(objective=objective, **SHORT).fit(X, y)
        assert vae.classes_.tolist() == [7] and vae.n_labelled_ == 1
        assert set(vae.predict(X)) == {7}
        assert (vae.predict_proba(X) == 1).all()
        assert np.isfinite(vae.score_samples(X)).all()
        assert vae.sample(2, random_state=0)[1].tolist() == [7, 7]


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (np.full(120, -1), "no label"),
        (np.full(120, np.nan), "no label"),
        (np.full(120, None), "no label"),
        (np.full(120, np.inf), "infinity"),
        (np.linspace(0, 1, 120), "Unknown label type"),
        (np.array(["a", 1] * 60, dtype=object), "mixes strings"),
        (np.arange(119) % 2, "inconsistent numbers of samples"),
        (None, "requires y to be passed"),
    ],
)
def test_labels_that_cannot_be_used(blobs, y, match):
    X, _, _ = blobs
    with pytest.raises(ValueError, match=match):
        VAEClassifier(**SHORT).fit(X, y)


def test_a_column_vector_is_flattened_with_a_warning(blobs):
    X, few, _ = blobs
    with pytest.warns(DataConversionWarning):
        vae = VAEClassifier(**SHORT).fit(X, few[:, None])
    reference = VAEClassifier(**SHORT).fit(X, few)
    np.testing.assert_array_equal(vae.predict_proba(X), reference.predict_proba(X))


def test_a_failed_fit_changes_nothing(blobs):
    X, few, _ = blobs
    vae = VAEClassifier(**SHORT).fit(X, few)
    before = vae.predict_proba(X)
    for y in (np.full(120, -1), few[:5]):
        with pytest.raises(ValueError, match=r"no label|inconsistent numbers"):
            vae.fit(X, y)
    with pytest.raises(ValueError, match="non-finite"):
        vae.set_params(learning_rate_init=1e30).fit(X, few)
    np.testing.assert_array_equal(vae.predict_proba(X), before)
    assert not hasattr(vae, "_codes")


# -- weights, stopping, going on -----------------------------------------------------


def test_enough_labels_stop_early(blobs):
    X, few, y = blobs
    vae = VAEClassifier(**SHORT).fit(X, few)
    assert vae.early_stopping_ is False
    assert vae.validation_scores_ is None and vae.best_validation_score_ is None
    vae.set_params(validation_fraction=0.25).fit(X, y)
    assert vae.early_stopping_ is True
    assert len(vae.validation_scores_) == vae.n_iter_
    assert vae.best_validation_score_ == pytest.approx(
        max(*vae.validation_scores_, -np.log(3)), abs=0.2
    )
    vae.set_params(early_stopping=False).fit(X, y)
    assert vae.early_stopping_ is False


def test_validation_leaves_a_label_of_every_class(blobs):
    X, few, _ = blobs
    vae = VAEClassifier(**SHORT | {"validation_fraction": 0.9}).fit(X, few)
    assert vae.early_stopping_ and vae.classes_.tolist() == [0, 1, 2]
    rows = vae.set_params(validation_fraction=None).fit(X, np.arange(120) % 2)
    assert rows.early_stopping_ is False  # a tenth of 120 labels is too few


# -- tables, containers, persistence -------------------------------------------------


@pytest.mark.parametrize("container", ["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_mixed_tables(mixed_table, container, objective):
    X, y = labelled_table(mixed_table, container)
    vae = VAEClassifier(objective=objective, **SHORT).fit(X, y)
    for values in (vae.predict_proba(X), vae.transform(X), vae.score_samples(X)):
        assert np.isfinite(values).all()
    rows, _ = vae.sample(5, y=1, random_state=0)
    assert type(rows) is type(X)
    with pytest.warns(UserWarning, match="Categories"):
        unknown = mixed_table("pandas")
        unknown["island"] = "Atlantis"
        assert np.isfinite(vae.predict_proba(unknown)).all()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_models_survive_a_pickle(mixed_table, objective):
    X, y = labelled_table(mixed_table)
    vae = VAEClassifier(objective=objective, **SHORT).fit(X, y)
    loaded = pickle.loads(pickle.dumps(vae))
    np.testing.assert_array_equal(loaded.predict_proba(X), vae.predict_proba(X))
    np.testing.assert_array_equal(loaded.transform(X), vae.transform(X))
    np.testing.assert_array_equal(loaded.score_samples(X), vae.score_samples(X))
    expected = vae.sample(3, random_state=0)[0]
    assert loaded.sample(3, random_state=0)[0].equals(expected)
    again = loaded.set_params(warm_start=True).fit(X, y)
    assert (again.predict_proba(X) != vae.predict_proba(X)).any()


def test_in_a_search_and_a_pipeline(blobs):
    X, _, y = blobs
    search = GridSearchCV(
        VAEClassifier(**SHORT), {"consistency_weight": [0.0, 1.0]}, cv=2
    )
    assert 0 <= search.fit(X, y).best_score_ <= 1
    weights = np.arange(120) % 3 + 1
    with config_context(enable_metadata_routing=True):
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        vae = VAEClassifier(**SHORT).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(scaler, vae.set_score_request(sample_weight=True))
        pipeline.fit(X, y, sample_weight=weights)
    by_hand = VAEClassifier(**SHORT).fit(scaler.transform(X), y, weights)
    np.testing.assert_array_equal(
        pipeline.predict_proba(X), by_hand.predict_proba(scaler.transform(X))
    )


def test_latents_as_a_data_frame(blobs):
    pytest.importorskip("pandas")
    X, few, _ = blobs
    vae = VAEClassifier(2, **SHORT).set_output(transform="pandas")
    frame = vae.fit_transform(X, few)
    assert frame.columns.tolist() == ["vaeclassifier0", "vaeclassifier1"]


@pytest.mark.parametrize("nothing", [None, np.nan])
def test_lists_of_strings_may_lack_labels(blobs, nothing):
    X, few, _ = blobs
    y = [nothing if label < 0 else "abc"[label] for label in few]
    vae = VAEClassifier(**SHORT).fit(X, y)
    assert vae.classes_.tolist() == ["a", "b", "c"]
    y = [-1 if label < 0 else "abc"[label] for label in few]
    with pytest.raises(ValueError, match="mixes strings and other labels"):
        VAEClassifier(**SHORT).fit(X, y)


def test_arrow_labels_and_dates(blobs):
    pa = pytest.importorskip("pyarrow")
    X, few, _ = blobs
    names = pa.array([None if label < 0 else "abc"[label] for label in few])
    for y in (names, names.dictionary_encode(), pa.chunked_array([names])):
        vae = VAEClassifier(**SHORT).fit(X, y)
        assert vae.classes_.tolist() == ["a", "b", "c"]
    y = np.where(few < 0, np.datetime64("NaT"), np.datetime64("2020-01-01") + few)
    assert len(VAEClassifier(**SHORT).fit(X, y).classes_) == 3


@pytest.mark.parametrize("n_labelled", [6, 40])
def test_a_class_per_row_is_warned_of_at_the_users_line(n_labelled):
    """Not where few rows have a label, as they are for."""
    X = np.random.default_rng(0).normal(size=(40, 2))
    y = np.where(np.arange(40) < n_labelled, np.arange(40), -1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        VAEClassifier(max_iter=1, hidden_layer_sizes=(4,)).fit(X, y)
    if n_labelled == 6:
        assert not caught
    else:
        (warning,) = caught
        assert "40 classes in 40 rows" in str(warning.message)
        assert warning.filename == __file__
