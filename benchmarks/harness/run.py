"""Options that all benchmarks have, and the cells of a run: cached or computed."""

import argparse
import json
import warnings
from fnmatch import fnmatch
from pathlib import Path

from .cache import OURS, Cache, cache_path, cell_key, digest, version
from .report import RESULTS


def read_options(name, description, **defaults):
    """Return the options of the command line.

    Parameters
    ----------
    name : str
        Of the script and, by default, of its page.
    description : str
    **defaults
        Options of this script alone; what they take is read from their defaults.
    """
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
    return parser.parse_args()


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

    Parameters
    ----------
    name : str
        Of the cache.
    options : of the command line
    peers : collection of str
        Methods that are not ours.
    packages : tuple of str
        Those whose versions the results of peers depend on.
    """

    def __init__(self, name, options, peers=(), packages=("numpy", "scikit-learn")):
        self.cache = Cache(cache_path(f"{name}.jsonl"))
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

        Parameters
        ----------
        name : str
            Printed with the result.
        case : str
            Digest of the data, the split and the mask.
        method : str
        seed : int or None
        compute : function of the arguments that returns what JSON can hold
        **settings
            Whatever else the result depends on.
        """
        key = self.key(case, method, seed, **settings)
        if self.lacks(key):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.cache.put(key, compute(*arguments))
            print(name, method, seed, json.dumps(self.cache.get(key)), flush=True)
        return self.cache.get(key)

    def grid(self, cases, compute, **settings):
        """Return results by name, method and seed: all methods of a case, case by case.

        Parameters
        ----------
        cases : function from a seed to tuples of name, methods and split
        compute : function of method, split and seed
        **settings
            Whatever else the results depend on.
        """
        found = {}
        for seed in self.options.seeds:
            for name, methods, split in cases(seed):
                case = digest(*split)
                for method in self.wanted(methods):
                    cell = self.cell(
                        *(name, case, method, seed),
                        *(compute, method, split, seed),
                        **settings,
                    )
                    if cell:
                        row = found.setdefault(name, {}).setdefault(method, {})
                        row[str(seed)] = cell
        return found
