"""The rows of the table: every model as one function from training rows to scores.

What is chosen about the peers was found by `handbook.search` on the validation folds, on the same
features and with the same effort as our own settings; see the README.
"""

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import replace

import lightgbm
import numpy as np
import numpy.typing as npt
import onnxruntime
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
import xgboost

from fraudstream.model.served import export
from fraudstream.trainer.train import Settings
from fraudstream.trainer.train import fit

Matrix = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Trains on rows with their labels, and scores others: (features, is_fraud, test, seed, threads).
Model = Callable[[Matrix, Mask, Matrix, int, int], Float64]

#: Bins of a feature: with the usual 256 the steep top of the amounts falls into one.
_BINS = 4_000
_ROWS_PER_PASS = 1_024

LIGHTGBM: Mapping[str, float] = {
    "num_iterations": 300,
    "learning_rate": 0.03,
    "num_leaves": 31,
    "min_data_in_leaf": 40,
    "lambda_l2": 5.0,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
}
XGBOOST: Mapping[str, float] = {
    "n_estimators": 300,
    "learning_rate": 0.03,
    "max_depth": 5,
    "min_child_weight": 3.0,
    "reg_lambda": 5.0,
    "colsample_bytree": 0.5,
    "subsample": 0.8,
}


def logistic_regression(
    features: Matrix, is_fraud: Mask, test: Matrix, seed: int, threads: int
) -> Float64:
    """Fit the book's, scaled by the training rows alone; an absent value counts as the median."""
    model = make_pipeline(
        SimpleImputer(strategy="median", keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(C=100.0, max_iter=1_000),
    )
    return _of_fraud(model.fit(features, is_fraud).predict_proba(test))


def random_forest(
    features: Matrix, is_fraud: Mask, test: Matrix, seed: int, threads: int
) -> Float64:
    """Grow a hundred trees to a depth of 20, as the book chose them."""
    model = RandomForestClassifier(100, max_depth=20, random_state=seed, n_jobs=threads)
    return _of_fraud(model.fit(features, is_fraud).predict_proba(test))


def boosted_by_lightgbm(
    features: Matrix,
    is_fraud: Mask,
    test: Matrix,
    seed: int,
    threads: int,
    settings: Mapping[str, float] = LIGHTGBM,
) -> Float64:
    """Boost trees with LightGBM, on fine bins."""
    fixed = {
        "objective": "binary",
        "max_bin": _BINS,
        "min_data_in_bin": 1,
        "bagging_freq": 1,
        "seed": seed,
        "num_threads": threads,
        "verbose": -1,
    }
    rows = lightgbm.Dataset(features, is_fraud.astype(np.float32))
    return np.asarray(lightgbm.train(fixed | dict(settings), rows).predict(test), dtype=np.float64)


def boosted_by_xgboost(
    features: Matrix,
    is_fraud: Mask,
    test: Matrix,
    seed: int,
    threads: int,
    settings: Mapping[str, float] = XGBOOST,
) -> Float64:
    """Boost trees with XGBoost, on fine bins."""
    model = xgboost.XGBClassifier(
        tree_method="hist", max_bin=_BINS, random_state=seed, n_jobs=threads, **settings
    )
    return _of_fraud(model.fit(features, is_fraud).predict_proba(test))


def fraudstream(
    features: Matrix,
    is_fraud: Mask,
    test: Matrix,
    seed: int,
    threads: int,
    settings: Settings | None = None,
) -> Float64:
    """Train our network in PyTorch, and score it as it is served, as ONNX."""
    settings = replace(settings or Settings(), seed=seed)
    network = fit(features, is_fraud, settings, threads=threads)
    served = onnxruntime.InferenceSession(export(network), providers=["CPUExecutionProvider"])
    parts = [
        served.run(["score"], {"features": test[start : start + _ROWS_PER_PASS]})[0]
        for start in range(0, len(test), _ROWS_PER_PASS)
    ]
    return np.concatenate(parts).astype(np.float64)


MODELS: Mapping[str, Model] = {
    "fraudstream": fraudstream,
    "lightgbm": boosted_by_lightgbm,
    "xgboost": boosted_by_xgboost,
    "random_forest": random_forest,
    "logistic_regression": logistic_regression,
}


#: How many legitimate rows a model is trained on at most; one that is not named takes all. Boosted
#: trees are no worse so on the validation folds, and the last two would take minutes for all rows.
LEGITIMATE_AT_MOST: Mapping[str, int] = {
    "lightgbm": 200_000,
    "xgboost": 200_000,
    "random_forest": 200_000,
    "logistic_regression": 200_000,
}


def _of_fraud(probabilities: npt.NDArray[np.floating]) -> Float64:
    return np.asarray(probabilities[:, 1], dtype=np.float64)
