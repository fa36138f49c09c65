"""Estimators that earlier versions saved give the answers that they gave then."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parent / "data"
sys.path.insert(0, str(DATA))
import make_saved_estimators as made  # noqa: E402

SAVED = sorted(DATA.glob("skvae-*/*.pkl"))


def test_this_version_has_saved_estimators():
    assert {path.stem for path in SAVED if path.parent == made.FOLDER} == {
        *json.loads((made.FOLDER / "answers.json").read_text(encoding="utf-8"))
    }
    assert len(SAVED) >= 10


@pytest.mark.filterwarnings("ignore:.*was saved with:UserWarning")
@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_a_saved_estimator_answers_as_it_did(path):
    model = pickle.loads(path.read_bytes())
    X = made.mixed() if hasattr(model, "feature_names_in_") else made.numbers()
    recorded = json.loads((path.parent / "answers.json").read_text(encoding="utf-8"))
    expected = recorded[path.stem]
    found = made.answers(model, X)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        # processors differ in the last digits of single precision
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-3)


@pytest.mark.filterwarnings("ignore:.*was saved with:UserWarning")
@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_a_saved_estimator_can_be_saved_again(path):
    model = pickle.loads(path.read_bytes())
    again = pickle.loads(pickle.dumps(model))
    X = made.mixed() if hasattr(model, "feature_names_in_") else made.numbers()
    assert made.answers(again, X) == made.answers(model, X)
