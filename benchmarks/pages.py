"""Renew the pages of results/ from the raw figures of results/raw/; run nothing.

python benchmarks/pages.py [PAGE ...]
"""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

from harness.report import RESULTS, write_page

HERE = Path(__file__).resolve().parent


def load_script(name):
    """Return the module of a script of this folder."""
    path = HERE / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def raw_figures(results=RESULTS):
    """Return the raw figures by page; those of pages written by hand are left out."""
    found = {}
    for path in sorted((results / "raw").glob("*.json")):
        raw = json.loads(path.read_text())
        if "script" in raw:
            found[path.stem] = raw
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="default: all")
    chosen = parser.parse_args().pages
    known = raw_figures()
    if unknown := set(chosen) - set(known):
        sys.exit(f"No raw figures of {', '.join(sorted(unknown))}")
    for name, raw in known.items():
        if not chosen or name in chosen:
            write_page(load_script(raw["script"]), raw, RESULTS / f"{name}.md")
            print(RESULTS.name, name, sep="/")


if __name__ == "__main__":
    main()
