"""Options that all benchmarks have, and the cells of a run: cached or computed."""

import argparse
import json
import sys
import warnings
from fnmatch import fnmatch
from pathlib import Path

from .cache import OURS, Cache, cache_path, cell_key, digest, version
from .report import RESULTS


def read_options(description, **defaults):
    """Return the options of the command line: those of all scripts, and of this one.

    What the latter take is read from their defaults.
    """
    name = Path(sys.argv[0]).stem
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=style)
    add = parser.add_argument
    help_of_data = "folder of the benchmark data sets (default: %(default)s)"
    add("--data", type=Path, default=Path("../shared/data"), help=help_of_data)
    help_of_output = "page to write; raw figures go to raw/ beside it"
    add("--output", type=Path, default=RESULTS / f"{name}.md", help=help_of_output)
    add("--note", help="a sentence for the page")
    add("--report-only", action="store_true", help="compute nothing, write the page")
    patterns = "names or patterns with *"
    add("--methods", nargs="+", metavar="NAME", help=f"only these: {patterns}")
    rerun = f"compute these again, whatever the cache has: {patterns}, or ours"
    add("--rerun", nargs="+", default=[], metavar="NAME", help=rerun)
    for option, default in defaults.items():
        _add_option(parser, "--" + option.replace("_", "-"), default)
    options = parser.parse_args()
    options.script, options.own = name, list(defaults)
    return options


def _add_option(parser, option, default):
    if isinstance(default, bool):
        parser.add_argument(option, action="store_true")
        return
    several = isinstance(default, list)
    example = (default or [""])[0] if several else default
    parser.add_argument(
        option,
        default=default,
        nargs="+" if several else None,
        type=str if example is None else type(example),
        metavar=option.strip("-").upper(),
        help=None if default in (None, []) else "default: %(default)s",
    )


def our_parameters(options):
    """Return the parameters of ``--set NAME=JSON``, and the label of ours with them."""
    pairs = dict(word.split("=", 1) for word in options.set)
    label = " ".join(["ours", *sorted(options.set)])
    return {name: json.loads(value) for name, value in pairs.items()}, label


class Run:
    """The cells of one script: taken from its cache, or computed and put there.

    ``peers`` are the methods that are not ours, ``packages`` those whose versions
    their results depend on.
    """

    def __init__(self, options, peers=(), packages=("numpy", "scikit-learn")):
        self.cache = Cache(cache_path(f"{options.script}.jsonl"))
        self.options = options
        self.versions = dict.fromkeys(peers, version(*packages))

    def wanted(self, methods):
        """Return those of the methods that are asked for."""
        patterns = self.options.methods or ["*"]
        return [m for m in methods if any(fnmatch(m, pattern) for pattern in patterns)]

    def key(self, case, method, seed, **settings):
        """Return the key of a cell."""
        version_used = self.versions.get(method) or version(*OURS)
        return cell_key(case, method, version_used, seed, **settings)

    def lacks(self, key):
        """Return whether the result of a key is to be computed."""
        if self.options.report_only:
            return False
        ours = key[2].startswith("skvae ")
        again = any(
            fnmatch(key[1], pattern) or (ours and pattern == "ours")
            for pattern in self.options.rerun
        )
        return again or key not in self.cache

    def cell(self, name, case, method, seed, compute, *arguments, **settings):
        """Return the result of a cell, None if it is not there and not computed.

        ``case`` is a digest of the data, the split and the mask; ``compute``, called
        with the arguments, returns what JSON can hold; ``settings`` are whatever else
        the result depends on.
        """
        key = self.key(case, method, seed, **settings)
        if self.lacks(key):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.cache.put(key, compute(*arguments))
            print(name, method, seed, json.dumps(self.cache.get(key)), flush=True)
        return self.cache.get(key)

    def grid(self, cases, compute, ours=None, **settings):
        """Return results by name, method and seed, computed case by case.

        ``cases`` gives name, methods and split of the cases of a seed; ``compute`` is
        called with method, split and seed; ``ours`` are settings of our methods alone.
        """
        found = {}
        for seed in self.options.seeds:
            for name, methods, split in cases(seed):
                case = digest(*split)
                for method in self.wanted(methods):
                    given = {} if method in self.versions else ours or {}
                    arguments = (compute, method, split, seed)
                    given = {**settings, **given}
                    cell = self.cell(name, case, method, seed, *arguments, **given)
                    if cell:
                        row = found.setdefault(name, {}).setdefault(method, {})
                        row[str(seed)] = cell
        return found
