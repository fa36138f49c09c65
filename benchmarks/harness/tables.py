"""Tables with numbers and categories, and what stands for them as arrays.

Numeric columns are float64, the others categories; a missing cell is NaN.
"""

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


def is_category(column):
    """Return whether a column of a table holds categories."""
    return not pd.api.types.is_numeric_dtype(column)


def fill(column, values):
    """Return the column with its missing cells taken from an array of its length.

    ``values`` are numbers, or codes into the categories of the column's dtype.
    """
    missing = column.isna().to_numpy()
    if is_category(column):
        codes = np.where(missing, values, column.cat.codes).astype(int)
        filled = pd.Categorical.from_codes(codes, dtype=column.dtype)
    else:
        filled = np.where(missing, values, column.to_numpy())
    return pd.Series(filled, index=column.index, name=column.name)


def most_frequent(column):
    """Return the code of the most frequent category, 0 if none is observed."""
    codes = column.cat.codes.to_numpy()
    counts = np.bincount(codes[codes >= 0], minlength=len(column.cat.categories))
    return int(counts.argmax())


def start_values(table):
    """Return the mean of every numeric column and the mode (a code) of the others."""
    return {
        name: most_frequent(column)
        if is_category(column)
        else float(np.nan_to_num(column.mean()))
        for name, column in table.items()
    }


def fill_constants(table, values):
    """Return the table with one value per column in its missing cells."""
    return pd.DataFrame(
        {name: fill(column, values[name]) for name, column in table.items()},
        index=table.index,
    )


class Encoder:
    """Numbers standardised, categories one-hot; a missing cell is NaN throughout.

    Categories that the training rows do not show have no column: an observed one is
    a row of zeros, and none is ever imputed.
    """

    def fit(self, train):
        self.mean, self.scale, self.codes = {}, {}, {}
        for name, column in train.items():
            if is_category(column):
                codes = np.unique(column.cat.codes)
                codes = codes[codes >= 0]
                self.codes[name] = codes if len(codes) else np.array([0])
            else:
                self.mean[name] = float(np.nan_to_num(column.mean()))
                scale = float(np.nan_to_num(column.std(ddof=0)))
                self.scale[name] = scale if scale > 0 else 1.0
        return self

    def encode(self, table):
        """Return the table as a float64 array with NaN for missing cells."""
        parts = [self.encode_column(column) for _, column in table.items()]
        return np.concatenate(parts, axis=1)

    def encode_column(self, column):
        """Return the columns of the array that stand for one column of the table."""
        if column.name in self.mean:
            values = column.to_numpy(np.float64)
            return ((values - self.mean[column.name]) / self.scale[column.name])[
                :, None
            ]
        codes = column.cat.codes.to_numpy()
        dummies = (codes[:, None] == self.codes[column.name]).astype(np.float64)
        dummies[codes < 0] = np.nan
        return dummies

    def slices(self, table):
        """Return where each column of the table is in the array."""
        places, start = {}, 0
        for name in table:
            width = 1 if name in self.mean else len(self.codes[name])
            places[name] = slice(start, start + width)
            start += width
        return places

    def decode(self, values, table):
        """Return the table, its missing cells filled; categories by the largest."""
        filled = {}
        for name, place in self.slices(table).items():
            part = values[:, place]
            if name in self.mean:
                part = part[:, 0] * self.scale[name] + self.mean[name]
            else:
                part = self.codes[name][part.argmax(axis=1)]
            filled[name] = fill(table[name], part)
        return pd.DataFrame(filled, index=table.index)


def to_codes(table):
    """Return a table as a float64 array, categories by their codes."""
    columns = [
        np.where(column.isna(), np.nan, column.cat.codes)
        if is_category(column)
        else column.to_numpy()
        for _, column in table.items()
    ]
    return np.stack(columns, axis=1).astype(np.float64)


def from_codes(values, table):
    """Return the table, its missing cells filled from an array of numbers and codes."""
    columns = zip(table.items(), values.T, strict=True)
    return pd.DataFrame({name: fill(column, part) for (name, column), part in columns})


def scaled_numbers(train, test):
    """Return two tables as scaled numbers and one-hot categories.

    Missing cells get the median or the most frequent category.
    """
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    categories = make_pipeline(
        SimpleImputer(strategy="most_frequent"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    encoder = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_exclude="number")),
    )
    return encoder.fit_transform(train), encoder.transform(test)
