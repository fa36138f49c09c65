"""Options that all benchmarks have, and the cells of a run: cached or computed."""

import argparse
import json
import warnings
from fnmatch import fnmatch
from pathlib import Path

from .cache import OURS, Cache, cache_path, cell_key, version
from .report import RESULTS


def argument_parser(name, description, seeds=None, methods=False, parameters=False):
    """Return a parser with the options that benchmarks share.

    Parameters
    ----------
    name : str
        Of the script and, by default, of its page.
    description : str
    seeds : list of int, optional
        Adds ``--seeds`` with this default.
    methods : bool
        Adds ``--methods`` and ``--rerun``.
    parameters : bool
        Adds ``--set``, parameters of ours.
    """
    parser = argparse.ArgumentParser(description=description)
    add = parser.add_argument
    help_of_data = "folder of the benchmark data sets (default: %(default)s)"
    add("--data", type=Path, default=Path("../shared/data"), help=help_of_data)
    help_of_output = "page to write; raw figures go to raw/ beside it"
    add("--output", type=Path, default=RESULTS / f"{name}.md", help=help_of_output)
    add("--note", help="a sentence for the page")
    add("--report-only", action="store_true", help="compute nothing, write the page")
    patterns = "names or patterns with *"
    if seeds is not None:
        add("--seeds", type=int, nargs="+", default=seeds, help="of splits and methods")
    if methods:
        add("--methods", nargs="+", metavar="NAME", help=f"only these; {patterns}")
    rerun = f"compute these again: {patterns}, or ours"
    add("--rerun", nargs="+", default=[], metavar="NAME", help=rerun)
    if parameters:
        text = "parameters of ours, shown under a label of their own"
        add("--set", nargs="+", default=[], metavar="NAME=JSON", help=text)
    return parser


def our_parameters(options):
    """Return the parameters of ``--set``, and the label of ours with them."""
    pairs = dict(word.split("=", 1) for word in options.set)
    label = " ".join(["ours", *sorted(options.set)])
    return {name: json.loads(value) for name, value in pairs.items()}, label


class Run:
    """The cells of one script: taken from its cache, or computed and put there."""

    def __init__(self, name, options):
        self.cache = Cache(cache_path(f"{name}.jsonl"))
        self.options = options

    def wants(self, method):
        """Return whether a method is among those asked for."""
        patterns = getattr(self.options, "methods", None)
        return patterns is None or any(fnmatch(method, p) for p in patterns)

    def lacks(self, key):
        """Return whether the result of a key is to be computed."""
        if self.options.report_only:
            return False
        return key not in self.cache or self._again(key[1], key[2])

    def _again(self, method, version):
        ours = version.startswith("skvae ")
        return any(
            fnmatch(method, pattern) or (ours and pattern == "ours")
            for pattern in self.options.rerun
        )

    def cell(self, label, case, method, compute, seed=None, packages=OURS, **settings):
        """Return the result of a cell, None if it is not there and not computed.

        Parameters
        ----------
        label : str
            Printed with the result.
        case : str
            Digest of the data, the split and the mask.
        method : str
        compute : function without arguments that returns what JSON can hold
        seed : int, optional
        packages : tuple of str
            Those whose versions the result depends on.
        **settings
            Whatever else it depends on.
        """
        key = cell_key(case, method, version(*packages), seed, **settings)
        if self.lacks(key):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.cache.put(key, compute())
            print(label, method, seed, json.dumps(self.cache.get(key)), flush=True)
        return self.cache.get(key)
