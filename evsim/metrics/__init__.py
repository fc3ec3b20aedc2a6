"""Image metrics as the papers define them: each convention by its id, from numpy arrays to one number."""

from evsim.metrics.brisque import (
    BrisqueRegression,
    brisque,
    brisque_features,
    load_brisque,
    scaled_features,
)
from evsim.metrics.catalogue import load_metric, weight_paths
from evsim.metrics.differences import (
    PsnrConvention,
    lightness_order_error,
    mean_absolute_error,
    mean_squared_error,
    peak_signal_to_noise,
)
from evsim.metrics.images import count_outside
from evsim.metrics.metric import METRICS, Metric, WeightFile
from evsim.metrics.niqe import (
    SceneModel,
    fit_scene_model,
    load_scene_model,
    niqe,
    niqe_features,
    save_scene_model,
)
from evsim.metrics.preparation import equalise_image, normalise_image
from evsim.metrics.structural_similarity import (
    SsimConvention,
    multi_scale_similarity,
    structural_similarity,
)

__all__ = [
    "METRICS",
    "BrisqueRegression",
    "Metric",
    "PsnrConvention",
    "SceneModel",
    "SsimConvention",
    "WeightFile",
    "brisque",
    "brisque_features",
    "count_outside",
    "equalise_image",
    "fit_scene_model",
    "lightness_order_error",
    "load_brisque",
    "load_metric",
    "load_scene_model",
    "mean_absolute_error",
    "mean_squared_error",
    "multi_scale_similarity",
    "niqe",
    "niqe_features",
    "normalise_image",
    "peak_signal_to_noise",
    "save_scene_model",
    "scaled_features",
    "structural_similarity",
    "weight_paths",
]
