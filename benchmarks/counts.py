"""Held-out likelihood of counts under the negative binomial that "auto" gives them.

Each table is fitted three times per seed: its counts with "negative_binomial", with
"poisson", and as numbers (the automatic choice for floats). A density stands for the
probability of a count after uniform noise of [-0.5, 0.5) is added to it, which is at
most the logarithm of the probability of the bin, and near it where bins are narrow.
"""

import numpy as np
from harness import report
from harness.cache import digest
from harness.cases import load_index, read_table
from harness.run import Run, read_options

N_ROWS = 2000
LIKELIHOOD = "negative_binomial"


def load(data, name):
    """Return up to N_ROWS shuffled rows, whole numbers as integers."""
    table = read_table(data, name)
    table = table.sample(min(N_ROWS, len(table)), random_state=0, ignore_index=True)
    for column in table.select_dtypes("number"):
        if (table[column].dropna() % 1 == 0).all():
            table[column] = table[column].astype("Int64")
    return table


def chosen(table):
    """Return the columns that "auto" takes for overdispersed counts."""
    from skvae import VAETransformer

    model = VAETransformer(2, max_iter=1, random_state=0).fit(table)
    return [name for name in table if model.likelihood_[name] == LIKELIHOOD]


def compare(table, columns, seed):
    """Return the gains over Poissons and over numbers, in nats per row and column."""
    from skvae import VAETransformer

    n_train = int(0.7 * len(table))
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, (len(table), len(columns)))
    numbers = table.copy()
    numbers[columns] = table[columns].astype(float) + noise
    versions = {
        "ours": (table, dict.fromkeys(columns, LIKELIHOOD)),
        "poisson": (table, dict.fromkeys(columns, "poisson")),
        "numeric": (numbers, "auto"),
    }
    scores = {}
    for version, (rows, likelihood) in versions.items():
        model = VAETransformer(likelihood=likelihood, max_iter=100, random_state=seed)
        model.fit(rows.iloc[:n_train])
        scores[version] = model.score_samples(rows.iloc[n_train:]).mean()
    gains = (scores["ours"] - scores[other] for other in ("poisson", "numeric"))
    return [float(gain / len(columns)) for gain in gains]


TEXT = """\
Of {} columns of whole numbers, "auto" gives these the negative
binomial. Gains of the held-out bound on the log-likelihood of rows over the
same columns as Poissons and as numbers (see the script), in nats per row and
column, medians over the seeds; above 0 is better."""


def page(raw):
    return report.blocks(
        "# Counts that vary more than a Poisson lets them",
        report.items(raw, f"seeds: {raw['seeds']}"),
        TEXT.format(raw["n_columns"]),
        report.table(["table", "columns", "over Poisson", "over numbers"], raw["rows"]),
    )


def main():
    options = read_options(__doc__, seeds=[0, 1, 2], tables=[])
    run = Run(options)
    rows, n_columns = [], 0
    for name in options.tables or load_index(options.data):
        if not (options.data / f"{name}.parquet").exists():
            continue
        table = load(options.data, name)
        n_columns += len(table.select_dtypes("Int64").columns)
        case = digest(table)
        columns = run.cell(name, case, "chosen", None, chosen, table)
        if columns:
            gains = [
                run.cell(name, case, "gains", seed, compare, table, columns, seed)
                for seed in options.seeds
            ]
            medians = np.median(gains, axis=0).tolist()
            rows.append([name, ", ".join(columns), *medians])
    report.publish(options, n_columns=n_columns, rows=rows)


if __name__ == "__main__":
    main()
