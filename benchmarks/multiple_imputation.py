"""Do pooled intervals of a regression coefficient cover it, under MAR?

In every repetition a table of ``--rows`` rows is drawn: y = 1 + x1 + 0.5 x2 + noise,
x1 and x2 correlated. x1 is missing in about 40% of the rows, more often where y is
large, which biases the regression on complete rows. 95% intervals of the coefficient
of x1: complete rows, and ``--draws`` tables of VAEImputer pooled by Rubin's rules, with
networks and without.
Target: pooled intervals cover 92 to 97%.
"""

import numpy as np
from harness import report
from harness.cache import digest
from harness.metrics import covered
from harness.run import Run, read_options
from scipy import stats

TRUTH = 1.0

#: Hidden layers by method.
IMPUTERS = {"VAEImputer, pooled": None, "without networks, pooled": ()}


def draw_table(n_rows, random):
    """Return the complete table (y, x1, x2) and the mask of the missing cells of x1."""
    x2 = random.normal(size=n_rows)
    x1 = 0.5 * x2 + np.sqrt(0.75) * random.normal(size=n_rows)
    y = 1 + TRUTH * x1 + 0.5 * x2 + random.normal(size=n_rows)
    chance = 1 / (1 + np.exp(-1.2 * (y - 1) + 0.5))
    return np.column_stack([y, x1, x2]), random.random(n_rows) < chance


def regress(table):
    """Return the coefficient of x1, its variance and the degrees of freedom."""
    design = np.column_stack([np.ones(len(table)), table[:, 1:]])
    coefficients, squares, *_ = np.linalg.lstsq(design, table[:, 0], rcond=None)
    freedom = len(table) - design.shape[1]
    covariance = np.linalg.inv(design.T @ design) * squares[0] / freedom
    return coefficients[1], covariance[1, 1], freedom


def simulate(table, missing, seed, n_draws):
    """Return estimate, lower and upper bound by method."""
    from skvae import VAEImputer, pool

    results = {}
    for name, rows in (("all cells", table), ("complete rows", table[~missing])):
        estimate, variance, freedom = regress(rows)
        margin = stats.t.ppf(0.975, freedom) * np.sqrt(variance)
        results[name] = [estimate, estimate - margin, estimate + margin]
    table = table.copy()
    table[missing, 1] = np.nan
    for name, sizes in IMPUTERS.items():
        imputer = VAEImputer(hidden_layer_sizes=sizes, random_state=seed).fit(table)
        draws = imputer.sample(table, n_draws, random_state=seed)
        estimates, variances, freedoms = zip(*map(regress, draws), strict=True)
        pooled = pool(estimates, variances, complete_degrees_of_freedom=freedoms[0])
        results[name] = [pooled.estimate, pooled.lower, pooled.upper]
    return results


def summary(values):
    """Return bias, coverage and width of estimates with their bounds."""
    estimates, lower, upper = np.transpose(values)
    bias, width = estimates.mean() - TRUTH, np.mean(upper - lower)
    return [float(bias), covered(TRUTH, lower, upper), float(width)]


def page(raw):
    rows = [[name, *values] for name, values in raw["methods"].items()]
    return report.blocks(
        "# Pooled intervals of a regression coefficient",
        report.items(raw),
        f"{raw['repetitions']} repetitions of {raw['rows']} rows, x1 missing in "
        f"about 40% of them (MAR), {raw['draws']} completed tables each.",
        report.table(["method", "bias", "coverage of 95%", "width"], rows),
    )


def main():
    options = read_options(__doc__, repetitions=200, rows=500, draws=10)
    run, name, draws = Run(options), "ours", options.draws
    found = []
    for seed in range(options.repetitions):
        table, missing = draw_table(options.rows, np.random.default_rng(seed))
        case, arguments = digest(table, missing), (table, missing, seed, draws)
        cell = run.cell(name, case, name, seed, simulate, *arguments, draws=draws)
        found += [cell] if cell else []
    options.repetitions = len(found)
    methods = {name: summary([cell[name] for cell in found]) for name in found[0]}
    report.publish(options, methods=methods)


if __name__ == "__main__":
    main()
