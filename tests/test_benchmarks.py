"""The benchmarks without running them: their parts, their pages, their cache."""

import argparse
from pathlib import Path

import numpy as np
import pages
import pandas as pd
import pytest
from harness import cases, processes, report, run
from harness.cache import Cache, cell_key, digest, sources_digest

FOLDER = Path(pages.__file__).parent
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "pages")
FILES = sorted(FOLDER.rglob("*.py"))
RAW = pages.raw_figures()
PAGES = {path.stem for path in report.RESULTS.glob("*.md")}
BY_HAND = {
    "ablations",
    "house",
    *(name for name in PAGES if name.endswith("_development")),
}
CASE = ("seeds", "ours", "skvae 1", 0)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_uses_the_harness_and_has_a_page(name):
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert "read_options(" in source
    assert "report.publish(" in source
    assert callable(pages.load_script(name).page)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_file_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("name", RAW)
def test_raw_figures_renew_the_page(name):
    raw = RAW[name]
    text = report.page_text(pages.load_script(raw["script"]), raw)
    assert text == (report.RESULTS / f"{name}.md").read_text(encoding="utf-8")


def test_every_page_has_raw_figures_and_every_script_a_page():
    assert set(RAW) == PAGES - BY_HAND
    assert {raw["script"] for raw in RAW.values()} == set(SCRIPTS)
    for name, raw in RAW.items():
        assert raw["page"] == name
        assert {"date", "python", "command"} <= set(raw["environment"])


def small_case(scenario="mcar30", seed=0):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)))
    table["kind"] = pd.Categorical(["a", "b"] * 20)
    return cases.masked_case(table.rename(columns=str), scenario, seed)


def test_digests_tell_masks_and_data_apart():
    assert small_case().digest() == small_case().digest()
    assert small_case().mask_digest() == small_case().mask_digest()
    for other in (small_case("mcar50"), small_case(seed=1)):
        assert other.digest() != small_case().digest()
        assert other.mask_digest() != small_case().mask_digest()
    mask = np.array([True, False])
    assert digest(mask) != digest(~mask)
    assert digest(np.zeros(2)) != digest(np.zeros((2, 1)))


@pytest.mark.parametrize(
    ("place", "other"), [(0, "glass"), (1, "em"), (2, "skvae 2"), (3, 1)]
)
def test_keys_differ_with_case_method_version_and_seed(place, other):
    changed = [*CASE]
    changed[place] = other
    assert cell_key(*CASE) != cell_key(*changed)
    assert cell_key(*CASE) != cell_key(*CASE, max_iter=3)


def test_a_change_of_the_sources_changes_their_digest(tmp_path):
    digests = []
    for number, text in enumerate(["x = 1\n", "x = 2\n"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "module.py").write_text(text)
        digests.append(sources_digest(folder))
    assert len(set(digests)) == 2


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "cache_path", tmp_path.joinpath)

    def make(rerun=(), report_only=False, packages=("numpy",)):
        options = argparse.Namespace(
            script="tried",
            rerun=rerun,
            report_only=report_only,
            methods=None,
            seeds=[0],
        )
        return run.Run(options, peers=["knn"], packages=packages)

    return make


def computed(made):
    """Methods that are computed in a run of two, in this order."""
    done = []

    def compute(method, split, seed):
        done.append(method)
        return {"error": 1.0}

    made.grid(lambda seed: [("seeds", ["knn", "ours"], [seed])], compute)
    return done


def test_results_are_computed_once_and_again_where_asked(make_run):
    assert computed(make_run(report_only=True)) == []
    assert computed(make_run()) == ["knn", "ours"]
    assert computed(make_run()) == []
    assert computed(make_run(rerun=["ours"])) == ["ours"]
    assert computed(make_run(rerun=["k*"])) == ["knn"]
    assert computed(make_run(packages=("pandas",))) == ["knn"]  # another version


def test_ours_of_other_sources_is_computed_again(make_run, monkeypatch):
    assert computed(make_run()) == ["knn", "ours"]
    monkeypatch.setattr("harness.cache.sources_digest", lambda folder: "other")
    assert computed(make_run()) == ["ours"]


def test_an_interrupted_line_of_the_cache_is_left_out(tmp_path):
    path = tmp_path / "tried.jsonl"
    for value in (1, 2):
        Cache(path).put(CASE, {"error": value})
    with path.open("a") as file:
        file.write('{"key": ["seeds"')
    assert Cache(path).get(CASE) == {"error": 2}
    assert len(Cache(path).records) == 1


def test_blocks_are_apart_and_cells_padded():
    table = report.table(["data", "error"], [["seeds", 0.5], ["glass", None]], 2)
    assert report.blocks("# Title", None, [], table) == [
        "# Title",
        "",
        "| data  | error |",
        "| ----- | ----: |",
        "| seeds |  0.50 |",
        "| glass |     - |",
    ]


def test_publish_writes_raw_figures_and_the_page(tmp_path, monkeypatch, capsys):
    script = argparse.Namespace(page=lambda raw: report.blocks("# It", raw["figure"]))
    monkeypatch.setitem(report.sys.modules, "__main__", script)
    output = tmp_path / "tried.md"
    options = argparse.Namespace(
        output=output, note="Noted.", own=["seeds", "peers_python"], seeds=[3]
    )
    report.publish(options, figure="3")
    assert output.read_text() == "# It\n\n3\n\nNoted.\n"
    raw = report.read_raw(output)
    assert raw["page"] == "tried"
    assert raw["seeds"] == [3]
    assert "peers_python" not in raw  # a path of this machine
    assert raw["environment"]["processor"]
    assert capsys.readouterr().out == output.read_text() + "\n"


def test_last_line_of_a_traceback():
    assert (
        processes.last_line("Traceback\n  File\nValueError: no\n") == "ValueError: no"
    )
    assert processes.last_line("") == "no message"
