"""Mutation testing: how many small changes of a room do its tests notice?

mutmut makes the mutants and runs the tests that reach each; here a random sample of
them is drawn by a seed, and the figures and the survivors are recorded. It is no test
itself: run it by ``make mutants``.
"""

import argparse
import json
import random
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("_tables", "_distributions", "_training")

#: Exit codes of pytest under a mutant: tests passed, or none reached the mutant. Any
#: other is a failure, an error or a time-out.
SURVIVED = {0: "survived", 33: "no test reaches it", 5: "no test reaches it"}


def mutmut(*names: str) -> None:
    """Run mutmut on the named mutants; without a match it makes them all and stops."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "2", *names]
    subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL)


def exit_codes(room: str) -> dict[str, int | None]:
    """Return the exit code of every mutant of a room, None where it did not run."""
    codes: dict[str, int | None] = {}
    for path in sorted((ROOT / "mutants" / "skvae" / room).glob("*.meta")):
        codes |= json.loads(path.read_text())["exit_code_by_key"]
    return codes


def test_room(room: str, n_mutants: int, seed: int) -> dict:
    """Run the tests against random mutants of a room and return the figures."""
    names = sorted(exit_codes(room))
    drawn = random.Random(seed).sample(names, min(n_mutants, len(names)))
    mutmut(*drawn)
    codes = exit_codes(room)
    survivors = {
        name: SURVIVED[code] for name in drawn if (code := codes[name]) in SURVIVED
    }
    killed = 1 - len(survivors) / len(drawn)
    error = (killed * (1 - killed) / len(drawn)) ** 0.5
    print(f"{room}: {killed:.1%} +- {error:.1%} of {len(drawn)} of {len(names)} killed")
    return {
        "mutants": len(names),
        "drawn": len(drawn),
        "killed": round(killed, 4),
        "standard_error": round(error, 4),
        "survivors": survivors,
    }


test_room.__test__ = False  # pytest reads this file for its doctests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", nargs="+", default=ROOMS, choices=ROOMS)
    parser.add_argument("--count", type=int, default=300, help="mutants per room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", type=Path, help="JSON file that is written")
    args = parser.parse_args()
    mutmut("none of them")
    record = {
        "date": date.today().isoformat(),
        "mutmut": version("mutmut"),
        "seed": args.seed,
        "rooms": {room: test_room(room, args.count, args.seed) for room in args.rooms},
    }
    if args.record:
        args.record.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
