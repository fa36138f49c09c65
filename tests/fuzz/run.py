"""Run the campaign for some minutes and go on where the last run ended.

python tests/fuzz/run.py [--minutes 10] [--jobs 2] [--parts tables parameters ...]
                         [--record FILE]
python tests/fuzz/run.py --case tables:1234     # one seed again, made small

The record holds, for every part, the next seed, the numbers of tables and calls so far,
and the failures that are open: each run first tries those again.
"""

import argparse
import collections
import copy
import dataclasses
import datetime
import faulthandler
import importlib
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

RECORD = ROOT / "benchmarks" / "results" / "fuzz.json"
#: Parts with their share of the time; those whose module is missing are left out.
PARTS = {
    "tables": 64,
    "parameters": 12,
    "metamorphic": 8,
    "workflows": 8,
    "interrupts": 6,
    "kills": 4,
    "files": 4,
    "threads": 2,
    "leaks": 2,
}
MODULES = {"tables": "sessions"}
#: Seconds between two writes of the record.
SAVED_EVERY = 30.0
#: Seconds after which a seed is a hang, and bytes that a process may take.
HANG, MEMORY = 180, 12 * 2**30
PACKAGES = ("numpy", "pandas", "polars", "pyarrow", "scikit-learn", "torch", "skvae")


def module_of(part):
    return importlib.import_module(f"fuzz.{MODULES.get(part, part)}")


def known_parts():
    names = {part: MODULES.get(part, part) for part in PARTS}
    return [
        part for part, name in names.items() if importlib.util.find_spec(f"fuzz.{name}")
    ]


# -- the process that works ------------------------------------------------------------


def work():
    """Run seeds that come as lines "part seed"; answer with one line of JSON each."""
    import torch

    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anything prints goes elsewhere
    for line in sys.stdin:
        part, seed = line.split()
        faulthandler.dump_traceback_later(HANG, exit=True)
        report = dataclasses.asdict(module_of(part).run(int(seed)))
        faulthandler.cancel_dump_traceback_later()
        answers.write(json.dumps(report) + "\n")
        answers.flush()


# -- the process that leads ------------------------------------------------------------


class Campaign:
    """Seeds still to run, and what came of those that ran."""

    def __init__(self, path, record, parts, minutes):
        self.lock = threading.Lock()
        self.path, self.record, self.parts = path, record, parts
        self.saved = time.monotonic()
        self.end = time.monotonic() + 60 * minutes
        self.spent = dict.fromkeys(parts, 0.0)
        self.again = collections.deque()
        self.found = collections.defaultdict(list)
        self.slowest = []
        for part in parts:
            known = record["parts"].setdefault(part, {"next_seed": 0, "failures": []})
            seeds = dict.fromkeys(failure["seed"] for failure in known["failures"])
            self.again.extend((part, seed) for seed in seeds)
            known["failures"] = []
        today = datetime.date.today().isoformat()
        self.run = {"date": today, "commit": commit(), "processor": processor()}
        self.run |= {"versions": versions(), "minutes": 0.0, "calls": 0}
        self.start = self.saved
        record["runs"].append(self.run)

    def save(self):
        """Write the record, whole or not at all; failures to try again are kept."""
        self.saved = time.monotonic()
        self.run["minutes"] = round((self.saved - self.start) / 60, 1)
        record = copy.deepcopy(self.record)
        for part, seed in self.again:
            untried = {"seed": seed, "call": "", "problem": "to be tried again"}
            record["parts"][part]["failures"].append(untried)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
        new.replace(self.path)

    def next(self):
        """Return the next part and seed, None if the time is over."""
        with self.lock:
            if self.again:
                return (*self.again.popleft(), False)
            if time.monotonic() > self.end:
                return None
            part = min(self.parts, key=lambda name: self.spent[name] / PARTS[name])
            known = self.record["parts"][part]
            known["next_seed"] += 1
            return part, known["next_seed"] - 1, True

    def add(self, part, seed, is_new, report, seconds):
        with self.lock:
            self.spent[part] += seconds
            known = self.record["parts"][part]
            if is_new:
                for name, value in report.items():
                    if isinstance(value, int):
                        known[name] = known.get(name, 0) + value
            for name, problem in dict.fromkeys(map(tuple, report["failures"])):
                known["failures"].append(
                    {"seed": seed, "call": name, "problem": problem}
                )
                self.found[key_of(part, name, problem)].append((seed, problem))
            self.slowest.append((*report.get("slowest", (0, "")), f"{part}:{seed}"))
            self.slowest = sorted(self.slowest, reverse=True)[:10]
            self.run["calls"] += report.get("calls", 0)
            if time.monotonic() - self.saved > SAVED_EVERY:
                self.save()

    def drive(self):
        """Give one worker seed after seed; start another where it died."""
        worker = None
        while task := self.next():
            worker = worker or Worker()
            part, seed, is_new = task
            start = time.monotonic()
            report = worker.ask(part, seed)
            if report is None:
                report = {"failures": [("process", worker.last_words())]}
                worker = None
            self.add(part, seed, is_new, report, time.monotonic() - start)
        if worker:
            worker.process.stdin.close()
            worker.process.wait()


def key_of(part, name, problem):
    from fuzz.oracle import signature

    return part, name.split("(")[0], signature(problem)


class Worker:
    """A process that runs seeds."""

    def __init__(self):
        self.said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.said,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        )

    def ask(self, part, seed):
        try:
            self.process.stdin.write(f"{part} {seed}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        answer = self.process.stdout.readline()
        return json.loads(answer) if answer else None

    def last_words(self):
        code = self.process.wait()
        self.said.seek(0)
        text = self.said.read()
        kind = "hang" if "Timeout (" in text else f"died with status {code}"
        lines = [line for line in text.splitlines() if line.strip()] or [""]
        return (
            f"{kind}: {lines[-1][:200]}" if kind != "hang" else f"hang: {text[-1500:]}"
        )


def load(path):
    if path.exists():
        return json.loads(path.read_text())
    return {"parts": {}, "runs": []}


def versions():
    found = {"python": sys.version.split()[0]}
    for package in PACKAGES:
        found[package] = metadata.version(package)
    return found


def commit():
    """Return the commit of this checkout, with a mark if it has changes."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def processor():
    """Return the name of the processor, where the system tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return f"{os.cpu_count()} x {names[0]}" if names else platform.processor()


def summary(campaign):
    """Print counts and groups of failures."""
    for part in campaign.parts:
        known = campaign.record["parts"][part]
        counts = ", ".join(f"{v:,} {k}" for k, v in known.items() if isinstance(v, int))
        print(f"{part}: {counts}; {len(known['failures'])} open failures")
    print("slowest calls (processor seconds):")
    for seconds, name, case in campaign.slowest[:5]:
        print(f"  {seconds:.1f} {name} {case}")
    for (part, name, problem), cases in sorted(
        campaign.found.items(), key=lambda item: -len(item[1])
    ):
        print(f"{len(cases)} x {name}: {problem}")
        print(f"    again: python tests/fuzz/run.py --case {part}:{cases[0][0]}")


def again(case):
    """Run one seed, and print it as small as it gets for each of its failures."""
    part, seed = case.split(":")
    module = module_of(part)
    report = module.run(int(seed))
    print(f"{report.calls} calls, {len(report.failures)} failures")
    keys = {}
    for name, problem in report.failures:
        keys.setdefault(key_of(part, name, problem), (name, problem))
    for key, (name, problem) in keys.items():
        print(f"\n{name}: {problem}")
        if hasattr(module, "draw_case"):
            print(shrink(module.draw_case(int(seed)), part, key))
    return len(keys)


def shrink(case, part, key, most=80):
    """Return a smaller case with the same failure."""
    tried = 0
    changed = True
    while changed and tried < most:
        changed = False
        for smaller in smaller_cases(case):
            tried += 1
            try:
                failures = smaller.run().failures
            except Exception:  # too small to be built
                continue
            if any(key_of(part, name, problem) == key for name, problem in failures):
                case, changed = smaller, True
                break
            if tried >= most:
                break
    return case


def smaller_cases(case):
    n_columns, n_rows = len(case.X.columns), len(case.X)
    for drop in range(n_columns if n_columns > 1 else 0):
        yield case.only([k for k in range(n_columns) if k != drop])
    for name in case.params:
        params = {k: v for k, v in case.params.items() if k != name}
        yield dataclasses.replace(case, params=params)
    if case.weights is not None:
        yield dataclasses.replace(case, weights=None)
    half = n_rows // 2
    for rows in (range(half), range(half, n_rows), range(n_rows - 1), range(1, n_rows)):
        if n_rows > 2:
            yield case.rows(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10, help="at most 60")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=known_parts()
    )
    parser.add_argument(
        "--seed", type=int, help="start here, not where the last run ended"
    )
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument(
        "--case", metavar="PART:SEED", help="run one seed, and make it small"
    )
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        return work()
    if options.case:
        return again(options.case) > 0
    record = load(options.record)
    if options.seed is not None:
        for part in options.parts:
            record["parts"].setdefault(part, {"failures": []})["next_seed"] = (
                options.seed
            )
    minutes = min(options.minutes, 60)
    campaign = Campaign(options.record, record, options.parts, minutes)
    threads = [threading.Thread(target=campaign.drive) for _ in range(options.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    campaign.save()
    summary(campaign)
    return bool(campaign.found)


if __name__ == "__main__":
    sys.exit(main())
