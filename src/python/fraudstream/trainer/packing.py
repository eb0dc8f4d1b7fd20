"""From a trained network to the bundle that ships."""

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from fraudstream.features.definitions import FeatureSet
from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import Manifest
from fraudstream.model.bundle import distributions
from fraudstream.model.bundle import load_bundle
from fraudstream.model.bundle import write_bundle
from fraudstream.model.network import predict
from fraudstream.model.reasons import usual_values
from fraudstream.model.served import export
from fraudstream.schema.timestamps import from_us
from fraudstream.trainer.dataset import Dataset
from fraudstream.trainer.dataset import Split
from fraudstream.trainer.thresholds import Threshold
from fraudstream.trainer.train import Settings
from fraudstream.trainer.train import Trained

_GOLDEN_ROWS = 64


def pack(
    folder: Path,
    *,
    name: str,
    run: str,
    feature_set: FeatureSet,
    dataset: Dataset,
    parts: Split,
    trained: Trained,
    settings: Settings,
    threshold: Threshold,
    metrics: dict[str, float],
    label_delay: timedelta,
    source: dict[str, Any],
) -> Bundle:
    """Write the bundle of a trained network, and load it again with every check.

    The golden rows are report rows that span the scores from the lowest to the highest; the
    reference is of all report rows.

    Parameters
    ----------
    folder
        Where to write it.
    name, run
        The model's name, and the run that made it.
    feature_set, dataset, parts, trained, settings, threshold, metrics, label_delay
        What it was made of.
    source
        Further facts on where the data came from, JSON values.

    Raises
    ------
    BundleRefused
        If it is not fit to serve, say because the export does not score as the network does.
    """
    rows = dataset.features[parts.report]
    scores = predict(trained.network, rows)
    places = np.linspace(0, len(scores) - 1, min(_GOLDEN_ROWS, len(scores))).astype(np.int64)
    golden = np.argsort(scores, kind="stable")[places]
    training = parts.training
    manifest = Manifest(
        name=name,
        run=run,
        feature_set=feature_set.identity,
        feature_hash=feature_set.hash,
        feature_names=feature_set.names,
        threshold=threshold.value,
        threshold_policy=threshold.policy,
        threshold_figures=threshold.figures,
        label_delay=label_delay,
        metrics=metrics,
        training={
            **source,
            "settings": asdict(settings),
            "rows": int(np.count_nonzero(training)),
            "frauds": int(np.count_nonzero(dataset.is_fraud[training])),
            "begin": from_us(parts.begin_us).isoformat(),
            "validation_begin": from_us(parts.validation_us).isoformat(),
            "report_begin": from_us(parts.report_us).isoformat(),
            "end": from_us(parts.end_us).isoformat(),
        },
        usual_values=tuple(
            usual_values(dataset.features[training], dataset.is_fraud[training]).tolist()
        ),
    )
    write_bundle(
        folder,
        manifest,
        export(trained.network),
        distributions(feature_set.names, rows, scores),
        rows[golden],
        scores[golden],
    )
    return load_bundle(folder, feature_set)
