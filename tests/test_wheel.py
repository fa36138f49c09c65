"""The package as users install it: a wheel with all files, imported away from here."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "skvae")
BUILD = "import sys, setuptools.build_meta as b; print(b.build_wheel(sys.argv[1]))"
IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import skvae, skvae.datasets
assert skvae.__file__.startswith(sys.argv[1]), skvae.__file__
for module in pkgutil.walk_packages(skvae.__path__, "skvae."):
    importlib.import_module(module.name)
assert len(skvae.datasets.load_penguins(return_X_y=True)[1]) == 344
print(skvae.__version__)
"""


def run(*arguments, cwd):
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split()[-1]


def files_of(package):
    """Files that belong to the package, as their names in the wheel."""
    return {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel, built offline from a copy: nothing is written beside the sources."""
    pytest.importorskip("setuptools")
    copy = tmp_path_factory.mktemp("copy")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            shutil.copy(source, copy)
    built = tmp_path_factory.mktemp("built")
    return built / run("-c", BUILD, str(built), cwd=copy)


def test_a_wheel_holds_every_file_of_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == files_of(ROOT / "skvae")
    assert {"skvae/py.typed", "skvae/data/penguins.csv"} <= held


def test_every_module_is_imported_from_the_wheel(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    version = run("-I", "-c", IMPORT_ALL, str(tmp_path), cwd=tmp_path)
    assert f"skvae-{version}-" in wheel.name
