"""The page on reliability says what its record says, and names tests that exist."""

import json
import re

from fuzz import page


def test_the_page_is_that_of_its_record():
    text = page.PAGE.read_text(encoding="utf-8")
    record = json.loads(page.RECORD.read_text())
    assert page.with_figures(text, record) == text


def test_the_tests_it_names_exist():
    names = re.findall(r"``(tests/[\w/.]+)``", page.PAGE.read_text(encoding="utf-8"))
    assert len(names) > 10
    assert all((page.ROOT / name).exists() for name in names)


def test_failures_are_counted():
    record = {"parts": {"tables": {"next_seed": 1200, "calls": 7, "failures": [{}]}}}
    record["runs"] = []
    assert "     - 1,200\n     -\n     - 7\n     - 1\n" in page.figures(record)
