"""Raw figures and pages: environment, Markdown tables, files.

A script hands its raw figures to ``publish``, which stores them as JSON and writes the
page that the script's ``page`` makes of them. ``pages.py`` does the second part alone.
"""

import datetime
import json
import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).resolve().parent.parent / "results"
PACKAGES = ("numpy", "torch", "scikit-learn", "skorch", "skvae")
#: Options that are particular to a machine.
PATHS = ("peers_python", "checkouts")
VERDICTS = {True: "met", False: "NOT met"}


def installed(package):
    """Return the version of a package."""
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


def processor():
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.processor() or platform.machine()


def environment(**more):
    """Return date, versions, processor and command line as a dict of strings."""
    from .cache import version

    report = {
        "date": datetime.date.today().isoformat(),
        "python": sys.version.split()[0],
    }
    report.update({package: installed(package) for package in PACKAGES})
    report["sources of skvae"] = version("skvae").split()[1]
    report["processor"] = processor()
    report["CPUs"] = str(os.cpu_count())
    report["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "not set")
    report["command"] = command_line()
    report["load average"] = f"{os.getloadavg()[0]:.1f}"
    return {**report, **more}


def items(raw, *more):
    """Return the environment of raw figures, and more, as Markdown list items."""
    lines = [f"- {key}: `{value}`" for key, value in raw["environment"].items()]
    return [*lines, *(f"- {text}" for text in more)]


def prose(docstring):
    """Return the paragraphs of a docstring after its first line."""
    return docstring.split("\n\n", 1)[1].strip()


def blocks(*parts):
    """Return the lines of parts (strings or lists), with an empty one in between."""
    lines = []
    for part in filter(None, parts):
        lines += [""] if lines else []
        lines += [part] if isinstance(part, str) else part
    return lines


def format_cell(value, digits=3):
    """Return a table cell: numbers rounded, missing results as a dash."""
    if value is None:
        return "-"
    if isinstance(value, (float, np.floating)):
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, (int, np.integer)) else str(value)


def table(header, rows, digits=3):
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


def mean_and_error(values):
    """Return the mean and its standard error, 0 for one value."""
    n_values = len(values)
    error = np.std(values, ddof=1) / np.sqrt(n_values) if n_values > 1 else 0.0
    return float(np.mean(values)), float(error)


def raw_path(output):
    """Return where the raw figures of a page are."""
    return output.parent / "raw" / f"{output.stem}.json"


def read_raw(output):
    """Return the raw figures of a page, None if there are none."""
    path = raw_path(output)
    return json.loads(path.read_text()) if path.exists() else None


def page_text(script, raw):
    """Return the page that a script's module makes of raw figures, with their note."""
    lines, note = script.page(raw), raw.get("note")
    return "\n".join(lines if note in lines else blocks(lines, note)) + "\n"


def write_page(script, raw, output):
    """Write the page, and the picture of scripts that draw one."""
    output.write_text(page_text(script, raw))
    if hasattr(script, "draw_picture"):
        script.draw_picture(raw, output.with_suffix(".png"))


def publish(options, more=(), **figures):
    """Write the raw figures of the script that runs, and the page made of them.

    Among them are its options but for paths; ``more`` are items for the environment.
    """
    script = sys.modules["__main__"]
    raw = {"script": Path(sys.argv[0]).stem, "page": options.output.stem}
    raw["environment"] = environment(**dict(more))
    raw |= {"note": options.note} if options.note else {}
    raw |= {name: getattr(options, name) for name in options.own if name not in PATHS}
    path = raw_path(options.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**raw, **figures}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n")
    raw = read_raw(options.output)
    write_page(script, raw, options.output)
    print(page_text(script, raw))
