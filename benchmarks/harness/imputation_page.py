"""The page and the picture of imputation.py, from its raw figures."""

import warnings

import numpy as np

from .cases import PARTS
from .peers.imputation import EXTERNAL, IMPUTERS, MAX_ROWS
from .report import VERDICTS, blocks, items
from .report import table as table_of

# Of two methods that are as good as each other, no table may tell them far apart.
STRONG_PEERS = ("missforest", "em", "miceforest")
MARKERS = dict(zip((*IMPUTERS, *EXTERNAL, "ours"), "|v^sDPXo", strict=True))
FACTS = {"90%": "coverage90", "50%": "coverage50", "width 90%": "width90"}
FACTS |= {"CRPS": "crps", "energy": "energy"}
#: Peer, training rows from and to, share of its seconds that is the target.
TIME_TARGETS = (
    ("missforest", 2000, 10_000, 1.0, "2,000 to 10,000 training rows"),
    ("missforest", 10_000, np.inf, 1 / 3, "from 10,000 training rows up"),
    ("hyperimpute", 0, np.inf, 1 / 3, "all sizes"),
)


class Results:
    """The finished cells of a scenario, and medians over seeds that methods share."""

    def __init__(self, raw, scenario):
        self.scenario = scenario
        self.methods, self.ours = raw["methods"], raw["ours"]
        self.peers = [method for method in self.methods if method != self.ours]
        self.tables, self.seeds = raw["tables"], raw["seeds"]
        self.cells, self.problems, masks = {}, [], {}
        for cell in raw["cells"]:
            if cell["scenario"] == scenario:
                self._add(cell, masks)

    def _add(self, cell, masks):
        """Keep a finished result whose mask is that of the other methods."""
        key = (cell["table"], cell["seed"], cell["method"])
        table, seed, method = key
        problem = ""
        if cell["status"] != "finished":
            problem = f"{cell['status']} {cell.get('message', '')}".rstrip()
        elif masks.setdefault(key[:2], cell["mask"]) != cell["mask"]:
            problem = "left out, its mask is not that of the others"
        if not problem:
            self.cells[key] = cell
            return
        where = f"{table}, {self.scenario}, seed {seed}, {method}"
        self.problems.append(f"- {where}: {problem}")

    def seeds_of(self, table, *methods, part="test"):
        """Return the seeds that all the methods finished."""
        return [
            seed
            for seed in self.seeds
            if all(part in self.cells.get((table, seed, m), {}) for m in methods)
        ]

    def median(self, table, method, path, seeds):
        """Return the median over seeds of what is at a path, None if nothing is."""
        values = []
        for seed in seeds:
            value = self.cells[table, seed, method]
            for step in path:
                value = value.get(step) if value is not None else None
            if value is not None:
                values.append(value)
        return float(np.median(values)) if values else None

    def error(self, table, method, part):
        """Return the median error over the seeds that the method finished."""
        seeds = self.seeds_of(table, method, part=part)
        return self.median(table, method, (part, "error"), seeds)

    def pairs(self, peer, part):
        """Return our error and a peer's over the seeds of both, a dict by table."""
        found = {}
        for table in self.tables:
            if seeds := self.seeds_of(table, self.ours, peer, part=part):
                found[table] = tuple(
                    self.median(table, method, (part, "error"), seeds)
                    for method in (self.ours, peer)
                )
        return found

    def ratios(self, peers, part):
        """Return our error over that of the best of the peers, a dict by table."""
        found = {}
        for peer in peers:
            for table, (mine, other) in self.pairs(peer, part).items():
                if other > 0:
                    found[table] = max(found.get(table, 0), mine / other)
        return {table: found[table] for table in self.tables if table in found}

    def seconds(self, table, method):
        """Return the median CPU seconds of fit and transform.

        Every process has one thread, so on a machine without other work these are
        the seconds on the clock.
        """
        cells = [self.cells.get((table, seed, method)) for seed in self.seeds]
        values = [cell["seconds"]["cpu"] for cell in cells if cell]
        return float(np.median(values)) if values else None

    def sizes(self, table):
        """Return the training rows and the columns of a table."""
        cell = next(cell for key, cell in self.cells.items() if key[0] == table)
        return cell["rows"], cell["columns"]

    def methods_of(self, part):
        """Return the methods that finished a part of any table."""
        tables = self.tables
        return [
            m
            for m in self.methods
            if any(self.seeds_of(t, m, part=part) for t in tables)
        ]


def error_lines(results, part):
    """Return the table of errors of one part, and its summary."""
    methods = results.methods_of(part)
    have_ours = results.ours in methods
    rows = error_rows(results, part, methods)
    if not rows:
        return []
    peers = [method for method in methods if method != results.ours]
    groups = {"ours/missforest": ["missforest"], "ours/best peer": peers}
    ratios = {title: results.ratios(group, part) for title, group in groups.items()}
    ratios = ratios if have_ours else {}
    rows = [[*row, *(found.get(row[0]) for found in ratios.values())] for row in rows]
    rows += mean_rows(results, part, methods, len(ratios))
    header = ["data", "seeds", *methods, *ratios]
    return blocks(
        f"### {results.scenario}, {PARTS[part]}",
        table_of(header, rows),
        comparison_lines(results, part, methods) if have_ours else None,
    )


def error_rows(results, part, methods):
    """Return for every table its name, seeds and errors."""
    rows = []
    for table in results.tables:
        counts = [len(results.seeds_of(table, m, part=part)) for m in methods]
        most = max(counts, default=0)
        if not most:
            continue
        cells = []
        for method, count in zip(methods, counts, strict=True):
            value = results.error(table, method, part)
            few = value is not None and count < most
            cells.append(f"{value:.3f} ({count})" if few else value)
        rows.append([table, most, *cells])
    return rows


def mean_rows(results, part, methods, n_ratios):
    """Return the row of means over the tables that all methods share, if any.

    Methods that are not run on every table do not decide which tables are averaged.
    """
    widely = [method for method in methods if method not in MAX_ROWS]
    errors = [
        row
        for table in results.tables
        if None not in (row := [results.error(table, m, part) for m in widely])
    ]
    if not errors:
        return []
    means = dict(zip(widely, np.mean(errors, axis=0).tolist(), strict=True))
    cells = [means.get(method) for method in methods]
    return [[f"mean of {len(errors)}", None, *cells, *[None] * n_ratios]]


def comparison_lines(results, part, methods):
    """Return the comparisons of ours with every peer, and with the best."""
    lines = []
    peers = [method for method in methods if method != results.ours]
    for peer in peers:
        pairs = results.pairs(peer, part)
        if not pairs:
            continue
        mine, other = np.mean(list(pairs.values()), axis=0)
        ratios = {table: pair[0] / pair[1] for table, pair in pairs.items()}
        losses = [table for table, ratio in ratios.items() if ratio > 1]
        lines.append(
            f"- ours against {peer} on {len(pairs)} tables: mean error {mine:.3f} "
            f"against {other:.3f}, ratio of means {mine / other:.3f}, mean of ratios "
            f"{np.mean(list(ratios.values())):.3f}; at or below on "
            f"{len(pairs) - len(losses)}; above on: {', '.join(losses) or 'none'}"
        )
    strong = f"the best of {', '.join(STRONG_PEERS)}"
    for title, group in (("the best peer", peers), (strong, STRONG_PEERS)):
        if ratios := results.ratios(group, part):
            worst = max(ratios, key=ratios.get)
            wins = sum(ratio <= 1 for ratio in ratios.values())
            lines.append(
                f"- ours at or below {title} on {wins} of {len(ratios)} tables "
                f"({wins / len(ratios):.0%}); worst ratio {ratios[worst]:.3f} ({worst})"
            )
    return lines


def second_lines(results):
    """Return the table of CPU seconds of fit and transform."""
    seconds = {
        table: {m: results.seconds(table, m) for m in results.methods}
        for table in results.tables
    }
    seconds = {t: row for t, row in seconds.items() if {*row.values()} != {None}}
    methods = [m for m in results.methods if any(row[m] for row in seconds.values())]
    rows = [
        [table, *results.sizes(table), *(row[m] for m in methods)]
        for table, row in seconds.items()
    ]
    if not rows:
        return []
    header = ["data", "training rows", "columns", *methods]
    title = f"### {results.scenario}, CPU seconds of fit and transform"
    return blocks(title, table_of(header, rows, digits=1))


def draw_facts(results, table, method):
    """Return coverages, width, CRPS, energy and the error of one draw."""
    seeds = results.seeds_of(table, method)
    paths = [*((fact,) for fact in FACTS.values()), ("single", "error")]
    return [results.median(table, method, ("draws", *path), seeds) for path in paths]


def draw_lines(results):
    """Return the table of coverage, CRPS and energy distance of draws."""
    rows, columns = [], {}
    for table in results.tables:
        for method in (results.ours, "miceforest"):
            facts = draw_facts(results, table, method)
            if any(value is not None for value in facts):
                rows.append([table, method, *facts])
                columns.setdefault(method, []).append(facts)
    if not rows:
        return []
    for method, found in columns.items():
        numbers = np.array(found, dtype=float)  # None becomes NaN
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a mean of no numbers
            means = np.nanmean(numbers, axis=0)
        means = [None if np.isnan(mean) else float(mean) for mean in means]
        rows.append([f"mean of {len(found)}", method, *means])
    header = ["data", "method", *FACTS, "error of one draw"]
    title = f"### {results.scenario}, draws on the test rows"
    return blocks(title, table_of(header, rows))


def target_lines(results):
    """Return the comparison with the targets of the project."""
    lines = list(error_targets(results, "test", 0.88))
    lines += [*error_targets(results, "train", 0.92), *time_targets(results)]
    lines += coverage_targets(results)
    return lines and blocks(f"### {results.scenario}, targets", lines)


def target_line(text, target, value, met):
    """Return the line of one target."""
    return f"- {text} (target: {target}): {value}: {VERDICTS[bool(met)]}"


def coverage_targets(results):
    """Yield the targets on the coverage of intervals."""
    for level, low, high in ((90, 0.87, 0.93), (50, 0.46, 0.54)):
        path = ("draws", f"coverage{level}")
        values = [
            results.median(t, results.ours, path, results.seeds_of(t, results.ours))
            for t in results.tables
        ]
        if values := [value for value in values if value is not None]:
            mean = np.mean(values)
            text = f"coverage of {level}% intervals, mean of {len(values)}"
            target, met = f"{low} to {high}", low <= mean <= high
            yield target_line(text, target, f"{mean:.3f}", met)


def error_targets(results, part, target):
    """Yield the targets on the errors of one part."""
    where = PARTS[part]
    if pairs := results.pairs("missforest", part):
        ratio = np.divide(*np.mean(list(pairs.values()), axis=0))
        text = f"mean error over missforest's, {where}, {len(pairs)} tables"
        met = ratio <= target
        yield target_line(text, f"at most {target}", f"{ratio:.3f}", met)
    if ratios := results.ratios(results.peers, part):
        share = np.mean([ratio <= 1 for ratio in ratios.values()])
        text = f"share of {len(ratios)} tables at or below the best peer, {where}"
        yield target_line(text, "at least 0.80", f"{share:.2f}", share >= 0.8)
    if ratios := results.ratios(STRONG_PEERS, part):
        worst = max(ratios.values())
        text = f"worst ratio to the best of {', '.join(STRONG_PEERS)}, {where}"
        yield target_line(text, "at most 1.03", f"{worst:.3f}", worst <= 1.03)


def time_targets(results):
    """Yield the targets on the seconds, by the size of the tables."""
    for peer, low, high, target, span in TIME_TARGETS:
        ratios = {}
        for table in results.tables:
            spent = [results.seconds(table, m) for m in (results.ours, peer)]
            if None not in spent and low <= results.sizes(table)[0] < high:
                ratios[table] = spent[0] / spent[1]
        if ratios:
            worst = max(ratios, key=ratios.get)
            yield (
                f"- CPU seconds over {peer}'s, {span}, {len(ratios)} tables, worst "
                f"{ratios[worst]:.2f} ({worst}) (target: at most {target:.2f}): "
                f"{VERDICTS[ratios[worst] <= target]}"
            )


def scenario_lines(results):
    """Return the lines of one scenario."""
    errors = blocks(*(error_lines(results, part) for part in PARTS))
    parts = (draw_lines, second_lines, target_lines)
    return errors and blocks(
        f"## {results.scenario}", errors, *(part(results) for part in parts)
    )


def lines_of(raw, text):
    """Return the Markdown lines of raw figures."""
    results = [Results(raw, scenario) for scenario in raw["scenarios"]]
    problems = [line for found in results for line in found.problems]
    return blocks(
        "# Imputation",
        text,
        "Medians over seeds; a number in brackets counts the seeds of a cell that\n"
        "rests on fewer than its row. HyperImpute cannot complete new rows.",
        items(raw, f"seeds: {raw['seeds']}"),
        *map(scenario_lines, results),
        problems and blocks("## Not finished", problems),
    )


def draw_picture(raw, path):
    """Draw the errors by table and method in the first scenario, a panel per part."""
    from matplotlib.figure import Figure

    results = Results(raw, raw["scenarios"][0])
    tables = [
        table
        for table in results.tables
        if any(results.seeds_of(table, method) for method in results.methods)
    ]
    figure = Figure(figsize=(11, 1.5 + 0.3 * len(tables)), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, part in zip(axes, PARTS, strict=True):
        draw_errors(axis, results, tables, part)
    axes[0].set_yticks(range(len(tables)), tables)
    axes[0].invert_yaxis()
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, dpi=150)


def draw_errors(axis, results, tables, part):
    """Draw one panel."""
    for number, method in enumerate(results.methods):
        errors = [results.error(table, method, part) for table in tables]
        points = [(e, place) for place, e in enumerate(errors) if e is not None]
        ours = method == results.ours
        axis.scatter(
            *np.reshape(points, (-1, 2)).T,
            marker=MARKERS[method.split()[0]],
            s=60 if ours else 32,
            color="black" if ours else f"C{number}",
            zorder=3 if ours else 2,
            alpha=1.0 if ours else 0.8,
            label=method,
        )
    axis.set_title(f"{PARTS[part]}, {results.scenario}")
    axis.set_xlabel("error relative to mean / mode (lower is better)")
    axis.grid(alpha=0.4)
