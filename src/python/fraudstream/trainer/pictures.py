"""Curves of a model, as PNG pictures."""

import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
from sklearn.metrics import roc_curve

from fraudstream.trainer.evaluate import Judged
from fraudstream.trainer.evaluate import average_precision
from fraudstream.trainer.evaluate import trade_off

_BINS = 10


def draw(judged: Judged, threshold: float) -> dict[str, bytes]:
    """Return pictures by file name: ranking, calibration, and what the threshold trades off."""
    figures = {
        "precision_recall.png": _precision_recall,
        "roc.png": _roc,
        "calibration.png": _calibration,
        "threshold.png": _threshold,
    }
    pictures = {}
    for name, plot in figures.items():
        # A figure of its own, not pyplot's: pyplot keeps all of them, and asks for a display.
        figure = Figure(figsize=(6, 4.5), layout="constrained")
        plot(figure.add_subplot(), judged, threshold)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
        pictures[name] = content.getvalue()
    return pictures


def _precision_recall(axes: Axes, judged: Judged, threshold: float) -> None:
    thresholds, precision, recall, _ = trade_off(judged)
    axes.step(recall, precision, where="post")
    chosen = np.flatnonzero(thresholds >= threshold)
    if len(chosen):
        axes.plot(recall[chosen[-1]], precision[chosen[-1]], "o", label=f"at {threshold:.3f}")
        axes.legend()
    axes.set(
        title=f"Average precision {average_precision(judged):.3f}",
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )


def _roc(axes: Axes, judged: Judged, threshold: float) -> None:
    false_positive, true_positive, _ = roc_curve(judged.is_fraud, judged.score)
    axes.plot(false_positive, true_positive)
    # Only the left end matters: one per cent of false alerts is a hundred times the frauds' work.
    axes.set(
        title="Receiver operating characteristic",
        xlabel="share of legitimate transactions flagged",
        ylabel="recall",
        xscale="symlog",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )
    axes.set_xscale("symlog", linthresh=1e-4)


def _calibration(axes: Axes, judged: Judged, threshold: float) -> None:
    edges = np.quantile(judged.score[judged.is_fraud], np.arange(1, _BINS) / _BINS)
    group = np.searchsorted(np.unique(edges), judged.score, side="right")
    count = np.bincount(group)
    filled = count > 0
    predicted = np.bincount(group, judged.score)[filled] / count[filled]
    observed = np.bincount(group, judged.is_fraud)[filled] / count[filled]
    axes.plot([0, 1], [0, 1], linestyle=":", color="gray")
    axes.plot(predicted, observed, "o-")
    axes.set(
        title="Calibration, in bins of equally many frauds",
        xlabel="mean score",
        ylabel="share of frauds",
        xlim=(0, 1),
        ylim=(0, 1),
    )


def _threshold(axes: Axes, judged: Judged, threshold: float) -> None:
    thresholds, precision, recall, saved = trade_off(judged)
    axes.plot(thresholds, precision, label="precision")
    axes.plot(thresholds, recall, label="recall")
    axes.axvline(threshold, linestyle=":", color="gray", label=f"chosen: {threshold:.3f}")
    axes.set(title="What the threshold trades off", xlabel="threshold", xlim=(0, 1), ylim=(0, 1.02))
    money = axes.twinx()
    money.plot(thresholds, saved, color="tab:green", label="money saved")
    money.set_ylabel("money saved")
    lines = [*axes.get_lines(), *money.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="lower left")
