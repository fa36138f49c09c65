"""The table of figures in docs/reliability.rst, made from the campaign's record."""

import json
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "benchmarks" / "results" / "fuzz.json"
PAGE = ROOT / "docs" / "reliability.rst"
START = ".. figures of the campaign, written by ``make pages``\n"
END = ".. end of the figures\n"

#: What each part counts, in words.
PARTS = {
    "tables": "Hostile tables",
    "parameters": "Combinations of parameters",
    "metamorphic": "Relations between two results",
    "workflows": "Chunks, warm starts, frames as output, plots",
    "interrupts": "Interrupts",
    "kills": "Processes that ``kill -9`` ends",
    "files": "Damaged files",
    "threads": "Eight threads at once",
    "leaks": "Memory of repeated fits",
}


def figures(record):
    """Return the lines of the table, in the syntax of list-table."""
    if not record["parts"]:
        return "No run is recorded yet."
    lines = [".. list-table::", "   :header-rows: 1", ""]
    rows = [("Part", "Cases", "Tables", "Calls", "Failures")]
    for part, name in PARTS.items():
        known = record["parts"].get(part)
        if known:
            counts = (known.get(key, 0) for key in ("next_seed", "tables", "calls"))
            numbers = (f"{count:,}" if count else "" for count in counts)
            rows.append((name, *numbers, f"{len(known['failures']):,}"))
    for first, *others in rows:
        lines += [f"   * - {first}", *(f"     - {text}".rstrip() for text in others)]
    return "\n".join([*lines, "", *last_run(record), ""])


def last_run(record):
    """Return where and when the last run was made."""
    for run in reversed(record["runs"]):
        if "commit" in run:
            names = ", ".join(f"{name} {v}" for name, v in run["versions"].items())
            return textwrap.wrap(
                f"The last run was on {run['date']} with commit {run['commit']} on "
                f"{run['processor']}, with {names}.",
                88,
            )
    return []


def with_figures(text, record):
    """Return the page with the figures of a record."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return f"{before}{START}\n{figures(record)}\n{END}{after}"


def write():
    """Renew the figures of the page."""
    text, record = PAGE.read_text(encoding="utf-8"), json.loads(RECORD.read_text())
    PAGE.write_text(with_figures(text, record), encoding="utf-8")


if __name__ == "__main__":
    write()
