"""Data sets, splits, masks and labels. Whatever is drawn is drawn from the seed."""

import hashlib
from dataclasses import dataclass

import numpy as np

from .cache import digest
from .tables import is_category

TARGET = "target"
PARTS = {"test": "out of sample", "train": "in sample"}
#: Mechanism and share of the cells that it hides.
SCENARIOS = {
    "mcar30": ("mcar", 0.3),
    "mar30": ("mar", 0.3),
    "mnar30": ("mnar", 0.3),
    "mcar10": ("mcar", 0.1),
    "mcar50": ("mcar", 0.5),
}


# Data sets


def load_index(data):
    """Return the rows of ``index.csv`` as a dict from name to a dict of strings."""
    import pandas as pd

    table = pd.read_csv(data / "index.csv", dtype=str, keep_default_na=False)
    return {row["name"]: row for row in table.to_dict("records")}


def read_table(data, name):
    """Return a table with its target."""
    import pandas as pd

    return pd.read_parquet(data / f"{name}.parquet")


def read_features(data, name):
    """Return the columns to impute: float64 or category, none constant.

    The target of a regression is one of them, a class is not.
    """
    import pandas as pd

    table = read_table(data, name)
    if load_index(data)[name]["task"] != "regression":
        table = table.drop(columns=TARGET)
    table = table.loc[:, table.nunique() > 1]
    columns = {}
    for label, column in table.items():
        if is_category(column) or pd.api.types.is_bool_dtype(column):
            column = column.astype("category").cat.remove_unused_categories()
            columns[label] = column
        else:
            columns[label] = column.astype("float64")
    return pd.DataFrame(columns)


def load_numeric_table(data, name, max_missing=0.2):
    """Return the complete numeric columns of a table, and its target.

    Columns with more than ``max_missing`` missing cells are dropped, then rows with
    a missing cell, so that methods which take no NaN see the same rows.
    """
    table = read_table(data, name)
    target = table.pop(TARGET)
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
    """Return images as float64 rows of grey values, and their labels (None: none)."""
    if name == "digits":
        from sklearn.datasets import load_digits

        return load_digits(return_X_y=True)
    if name == "mnist":
        images, labels = load_mnist(data)
    else:
        file = np.load(data / f"{name}.npz")
        images, labels = file["x"], file.get("y")
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


def drop_rare_classes(table, min_rows=10):
    """Return the rows of classes that have so many rows."""
    counts = table[TARGET].value_counts()
    return table[table[TARGET].isin(counts.index[counts >= min_rows])]


# Masks


@dataclass
class Case:
    """One split of one table: the truth, the masked table, the cells to score."""

    truth: dict  # part -> table
    masked: dict
    hidden: dict  # part -> boolean array

    def mask_digest(self):
        """Return a hash of the masks, by which results are known to be comparable."""
        masks = [self.hidden[part] for part in ("train", "test")]
        parts = b"".join(np.packbits(mask).tobytes() for mask in masks)
        return hashlib.sha256(parts).hexdigest()[:12]

    def digest(self):
        """Return a hash of what methods see and of the masks that are scored."""
        masks = [self.hidden[part] for part in PARTS]
        return digest(*(self.masked[part] for part in PARTS), *masks)


def split_rows(n_rows, seed):
    """Return the places of the training rows (70%) and of the test rows."""
    order = np.random.default_rng(seed).permutation(n_rows)
    return np.split(order, [round(0.7 * n_rows)])


def mask_seed(seed, part):
    """Return the seed of a mask, derived from that of the split."""
    # The places are those of the records: changing them changes every mask.
    sequence = np.random.SeedSequence([seed, list(PARTS).index(part)])
    return int(sequence.generate_state(1)[0])


def masked_case(table, scenario, seed):
    """Split a table and hide cells of both parts."""
    from skvae.datasets import ampute

    train, test = split_rows(len(table), seed)
    truth = {"train": table.iloc[np.sort(train)], "test": table.iloc[np.sort(test)]}
    mechanism, rate = SCENARIOS[scenario]
    if mechanism == "mcar":
        masked = {
            part: ampute(rows, mechanism, rate, random_state=mask_seed(seed, part))
            for part, rows in truth.items()
        }
    else:  # one mechanism for both parts: the same kept columns and scores
        whole = ampute(table, mechanism, rate, random_state=mask_seed(seed, "train"))
        masked = {part: whole.loc[rows.index] for part, rows in truth.items()}
    hidden = {
        part: masked[part].isna().to_numpy() & rows.notna().to_numpy()
        for part, rows in truth.items()
    }
    return Case(truth, masked, hidden)


# Labels


def hide_labels(y, kept):
    """Return the labels of the rows ``kept``, -1 elsewhere."""
    few = np.full(len(y), -1)
    few[kept] = y[kept]
    return few


def balanced(y, n_labels, rng):
    """Return rows with the same number of labels of every class."""
    classes = np.unique(y)
    order = rng.permutation(len(y))
    each = n_labels // len(classes)
    return np.concatenate([order[y[order] == label][:each] for label in classes])


def random_share(y, share, rng):
    """Return a share of the rows, at random, with at least one of every class."""
    order = rng.permutation(len(y))
    kept = list(order[: round(share * len(y))])
    for label in np.setdiff1d(y, y[kept]):
        kept.append(order[y[order] == label][0])
    return np.array(kept)
