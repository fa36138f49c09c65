"""Words that have been replaced by the field's terms stay out of code and documents."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: What is not written any more, as a regular expression, and what is written instead.
OLD_WORDS = {
    r"hidden_share": "masking_rate",
    r"smoothness": "consistency_weight",
    r"(?<!vat_)\bradius=": "vat_radius",
    r"roughness": "VAT loss",
    r"indecision": "entropy and balance",
    r"\bblend(_|s|ed|ing)?\b": "stacking weights",
    r"\bspread_": "interval_scale_",
    r"\brecipes?\b": "settings",
    r"\bjudged?\b": "validation",
    r"\bgoing_on\b|\bone_pass\b": "resume, incremental",
    r"\bstart_at_|\bstarting_(rows|cells)": "initialise",
    r"\b(noise|draws)_alike\b": "common random numbers",
    r"\bhide_like|\bhide\(": "mask",
    r"\b(hidden|visible) (cells?|values?)\b": "masked, observed cells",
    r"\bbent\b": "nonlinear",
    r"\bsettle_": "choose",
    r"TableLayout": "schema",
    r"\bpairing\b|\blabel_smoothing\b|\bkl_warmup_steps=|\bn_prior_components\b": "-",
    r"\.evidence\(": "score_samples",
}

#: Files that must name old words: the list of changes, and this file.
EXEMPT = {"CHANGELOG.md", "tests/test_words.py"}


def texts():
    for pattern in ("skvae/**/*.py", "docs/*.rst", "examples/*.py", "*.md"):
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            if name not in EXEMPT:
                yield name, path.read_text(encoding="utf-8")


@pytest.mark.parametrize("word", OLD_WORDS)
def test_old_words_stay_out(word):
    found = [
        f"{name}:{text[: match.start()].count(chr(10)) + 1}: {match.group()}"
        for name, text in texts()
        for match in re.finditer(word, text)
    ]
    assert not found, f"write {OLD_WORDS[word]!r} instead: {found}"


def test_the_texts_are_found():
    names = {name.split("/")[0] for name, _ in texts()}
    assert {"skvae", "docs", "examples", "README.md"} <= names
