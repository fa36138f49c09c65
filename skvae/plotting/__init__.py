"""Pictures of fitted estimators, in the style of scikit-learn's Displays."""

# SPDX-License-Identifier: BSD-3-Clause

from ._imputation import ImputationDisplay

__all__ = ["ImputationDisplay"]
