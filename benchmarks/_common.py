"""What the benchmark scripts share: data, environment report, checkpoint, tables."""

import argparse
import datetime
import json
import os
import shlex
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

RESULTS = Path("benchmarks/results")
PACKAGES = ("numpy", "torch", "scikit-learn", "skorch", "skvae")


def argument_parser(name, description):
    """Return a parser with the options common to every benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("../shared/data"),
        help="folder of the benchmark data sets (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS / f"{name}.md",
        help="report to write; a .json is written beside it (default: %(default)s)",
    )
    return parser


def cache_path(name):
    """Return a path in the cache folder, which git ignores."""
    folder = RESULTS / ".cache"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    return folder / name


# Data


def load_index(data):
    """Return the rows of ``index.csv`` as a dict from name to a dict of strings."""
    import pandas as pd

    table = pd.read_csv(data / "index.csv", dtype=str, keep_default_na=False)
    return {row["name"]: row for row in table.to_dict("records")}


def load_numeric_table(data, name, max_missing=0.2):
    """Return the complete numeric columns of a table, and its target.

    Columns with more than ``max_missing`` missing cells are dropped, then rows with
    a missing cell, so that methods which take no NaN see the same rows.

    Returns
    -------
    X : float64 array of shape (n_rows, n_columns)
    y : array of shape (n_rows,)
    """
    import pandas as pd

    table = pd.read_parquet(data / f"{name}.parquet")
    target = table.pop("target")
    numeric = table.select_dtypes("number")
    numeric = numeric.loc[:, numeric.isna().mean() <= max_missing]
    complete = numeric.notna().all(axis=1).to_numpy() & target.notna().to_numpy()
    return numeric.to_numpy(np.float64)[complete], target.to_numpy()[complete]


def load_mnist(data):
    """Return the 60,000 MNIST training images as uint8 rows, and their labels."""
    parts = [np.load(data / f"mnist_train_{part}.npz") for part in range(1, 7)]
    images = np.concatenate([part["x"] for part in parts])
    return images.reshape(len(images), -1), np.concatenate([p["y"] for p in parts])


def load_images(data, name):
    """Return images as float64 rows of grey values, and their labels."""
    if name == "digits":
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    if name == "mnist":
        images, labels = load_mnist(data)
    else:
        file = np.load(data / f"{name}.npz")
        images, labels = file["x"], file["y"]
    return images.reshape(len(images), -1).astype(np.float64), labels


def density_columns(X):
    """Return the columns whose joint density is not singular.

    Near-constant columns (one value in more than 99% of the rows) and columns that
    are linear combinations of the ones before them are left out.
    """
    keep = []
    for column in range(X.shape[1]):
        counts = np.unique(X[:, column], return_counts=True)[1]
        if counts.max() > 0.99 * len(X):
            continue
        residual = X[:, column]
        if keep:
            weights = np.linalg.lstsq(X[:, keep], residual, rcond=None)[0]
            residual = residual - X[:, keep] @ weights
        if residual.var() > 1e-6:
            keep.append(column)
    return keep


# Environment


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "source tree"


def command_line():
    """Return the command, without the folders that are particular to a machine."""
    words = [f"benchmarks/{Path(sys.argv[0]).name}"]
    for word in sys.argv[1:]:
        words.append(Path(word).name if os.path.isabs(word) else word)
    return "python " + shlex.join(words)


def environment():
    """Return date, versions, CPU count and command line as a dict of strings."""
    report = {
        "date": datetime.date.today().isoformat(),
        "python": sys.version.split()[0],
    }
    report.update({package: _version(package) for package in PACKAGES})
    report["CPUs"] = str(os.cpu_count())
    report["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "not set")
    report["command"] = command_line()
    return report


def environment_lines(report):
    """Return the environment as Markdown list items."""
    return [f"- {key}: `{value}`" for key, value in report.items()]


# Checkpoint


class Checkpoint:
    """Finished results in a file of JSON lines; the last line of a key wins.

    Every result is one appended line, so that an interrupted run loses at most the
    result in progress and two processes may add to one file.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.records = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                try:
                    record = json.loads(line)
                except json.JSONDecodeError:
                    continue  # the line that was being written at an interruption
                self.records[self._key(record["key"])] = record["value"]

    @staticmethod
    def _key(key):
        return tuple(key)

    def __contains__(self, key):
        return self._key(key) in self.records

    def get(self, key):
        """Return the result of a key, or None."""
        return self.records.get(self._key(key))

    def put(self, key, value):
        """Store a result and append it to the file."""
        self.records[self._key(key)] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"key": list(key), "value": value})
        with self.path.open("a") as file:
            file.write(line + "\n")


def medians(checkpoint, part, names, methods, seeds):
    """Return the median result over the seeds, a dict of name, then of method.

    A cell is present only when every seed is finished, so that all the cells of a
    row rest on the same splits.
    """
    table = {}
    for name in names:
        row = {}
        for method in methods:
            results = [checkpoint.get((part, name, method, seed)) for seed in seeds]
            if all(results):
                row[method] = float(np.median([r["value"] for r in results]))
        if row:
            table[name] = row
    return table


def comparison(table, ours, peer):
    """Return the differences ours minus peer, a dict by data set."""
    return {
        name: row[ours] - row[peer]
        for name, row in table.items()
        if ours in row and peer in row
    }


# Report


def format_cell(value, digits=3):
    """Return a table cell: numbers rounded, missing results as a dash."""
    if value is None:
        return "-"
    if isinstance(value, (float, np.floating)):
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)


def markdown_table(header, rows, digits=3):
    """Return the lines of a Markdown table, padded so that it also reads as text."""
    cells = [[format_cell(value, digits) for value in row] for row in rows]
    widths = [
        max([3, len(title), *(len(row[i]) for row in cells)])
        for i, title in enumerate(header)
    ]

    def line(words):
        padded = (
            word.ljust(width) if i == 0 else word.rjust(width)
            for i, (word, width) in enumerate(zip(words, widths, strict=True))
        )
        return "| " + " | ".join(padded) + " |"

    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return [line(header), line(rule), *(line(row) for row in cells)]


def write_report(output, lines, results):
    """Write the report, and the results as JSON beside it; print the report."""
    text = "\n".join(lines) + "\n"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text)
    output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    print(text)
