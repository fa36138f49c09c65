"""Held-out likelihood of counts under the negative binomial that "auto" gives them.

Each table is fitted three times per seed: its counts with "negative_binomial", with
"poisson", and as numbers (the automatic choice for floats). A density stands for the
probability of a count after uniform noise of [-0.5, 0.5) is added to it, which is at
most the logarithm of the probability of the bin, and near it where bins are narrow.

    python benchmarks/counts.py --data ../shared/data
"""

import warnings

import numpy as np
import pandas as pd
from _common import (
    Checkpoint,
    argument_parser,
    cache_path,
    environment,
    environment_lines,
    load_index,
    markdown_table,
    write_report,
)

from skvae import VAETransformer

N_ROWS = 2000
LIKELIHOOD = "negative_binomial"


def load(data, name):
    """Return up to N_ROWS shuffled rows, whole numbers as integers."""
    table = pd.read_parquet(data / f"{name}.parquet")
    table = table.sample(min(N_ROWS, len(table)), random_state=0, ignore_index=True)
    for column in table.select_dtypes("number"):
        if (table[column].dropna() % 1 == 0).all():
            table[column] = table[column].astype("Int64")
    return table


def chosen(table):
    """Return the columns that "auto" takes for overdispersed counts."""
    model = VAETransformer(2, max_iter=1, random_state=0).fit(table)
    return [name for name in table if model.likelihood_[name] == LIKELIHOOD]


def compare(table, columns, seed):
    """Return the gains over Poissons and over numbers, in nats per row and column."""
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


def main():
    parser = argument_parser("counts", __doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    checkpoint = Checkpoint(cache_path("counts.jsonl"))
    rows, n_columns = [], 0
    for name in load_index(arguments.data):
        if not (arguments.data / f"{name}.parquet").exists():
            continue
        table = load(arguments.data, name)
        n_columns += len(table.select_dtypes("Int64").columns)
        columns = chosen(table)
        if not columns:
            continue
        for seed in arguments.seeds:
            if (name, seed) not in checkpoint:
                checkpoint.put((name, seed), compare(table, columns, seed))
        gains = np.median([checkpoint.get((name, s)) for s in arguments.seeds], axis=0)
        rows.append([name, ", ".join(columns), *map(float, gains)])
        print(*rows[-1], flush=True)
    report = environment()
    lines = [
        "# Counts that vary more than a Poisson lets them",
        "",
        *environment_lines(report),
        f"- seeds: {arguments.seeds}",
        "",
        f'Of {n_columns} columns of whole numbers, "auto" gives these the negative',
        "binomial. Gains of the held-out bound on the log-likelihood of rows over the",
        "same columns as Poissons and as numbers (see the script), in nats per row and",
        "column, medians over the seeds; above 0 is better.",
        "",
        *markdown_table(["table", "columns", "over Poisson", "over numbers"], rows),
    ]
    write_report(arguments.output, lines, {"environment": report, "rows": rows})


if __name__ == "__main__":
    main()
