"""Pictures of fitted estimators, in the style of scikit-learn's Displays."""

from ._conditional import ConditionalGridDisplay
from ._elbo import ElboAnimation
from ._imputation import ImputationDisplay
from ._loss_curve import LossCurveDisplay
from ._manifold import LatentManifoldDisplay
from ._reconstruction import ReconstructionDisplay
from ._scatter import LatentScatterDisplay
from ._traversal import LatentTraversalDisplay

__all__ = [
    "ConditionalGridDisplay",
    "ElboAnimation",
    "ImputationDisplay",
    "LatentManifoldDisplay",
    "LatentScatterDisplay",
    "LatentTraversalDisplay",
    "LossCurveDisplay",
    "ReconstructionDisplay",
]
