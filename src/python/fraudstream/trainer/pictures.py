"""Curves of a model, as PNG pictures."""

from collections.abc import Callable
from functools import partial
import io

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
from sklearn.metrics import precision_recall_curve
from sklearn.metrics import roc_curve

from fraudstream.trainer.evaluate import Judged
from fraudstream.trainer.evaluate import average_precision
from fraudstream.trainer.thresholds import Threshold
from fraudstream.trainer.thresholds import TradeOff

_BINS = 10


def draw(judged: Judged, threshold: Threshold, found: TradeOff) -> dict[str, bytes]:
    """Return pictures by file name: ranking, calibration, and what the threshold trades off.

    Parameters
    ----------
    judged
        The rows that figures are reported on: ranking and calibration are of these.
    threshold, found
        The threshold, and among what it was chosen.
    """
    plots: dict[str, Callable[[Axes], None]] = {
        "precision_recall.png": partial(_precision_recall, judged, threshold),
        "roc.png": partial(_roc, judged),
        "calibration.png": partial(_calibration, judged),
        "threshold.png": partial(_threshold, threshold, found),
    }
    pictures = {}
    for name, plot in plots.items():
        # A figure of its own, not pyplot's: pyplot keeps all of them, and asks for a display.
        figure = Figure(figsize=(6, 4.5), layout="constrained")
        plot(figure.add_subplot())
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
        pictures[name] = content.getvalue()
    return pictures


def _precision_recall(judged: Judged, threshold: Threshold, axes: Axes) -> None:
    precision, recall, _ = precision_recall_curve(judged.is_fraud, judged.score)
    axes.step(recall, precision, where="post")
    alert = judged.score >= threshold.value
    if alert.any():
        axes.plot(
            np.mean(alert[judged.is_fraud]),
            np.mean(judged.is_fraud[alert]),
            "o",
            label=f"at {threshold.value:.3f}",
        )
        axes.legend()
    axes.set(
        title=f"Average precision {average_precision(judged):.3f}",
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1),
        ylim=(0, 1.02),
    )


def _roc(judged: Judged, axes: Axes) -> None:
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


def _calibration(judged: Judged, axes: Axes) -> None:
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


def _threshold(threshold: Threshold, found: TradeOff, axes: Axes) -> None:
    # Neither end fits a logarithmic scale otherwise: no alert at all, and one for everything.
    some = found.alerts_per_day > 0
    alerts, given = found.alerts_per_day[some], threshold.figures
    chosen = given["alerts_per_day"]
    axes.plot(alerts, found.precision[some], label="precision")
    axes.plot(alerts, found.recall[some], label="recall")
    axes.plot([chosen] * 2, [given["precision"], given["recall"]], "ko")
    axes.axvline(
        chosen,
        linestyle=":",
        color="gray",
        label=f"chosen: {threshold.value:.3f}, {chosen:.1f} alerts a day",
    )
    axes.set(
        title=f"Threshold: {threshold.policy}",
        xlabel="alerts a day",
        ylabel="precision, recall",
        xscale="log",
        ylim=(0, 1.02),
    )
    axes.title.set_fontsize("medium")
    money = axes.twinx()
    money.plot(alerts, found.cost_per_day[some], color="tab:green", label="cost a day")
    money.plot(chosen, given["cost_per_day"], "o", color="tab:green")
    money.set_ylabel("cost a day: frauds missed, and investigation")
    # Past the point where alerts cost as much as all frauds, how much more does not matter.
    money.set_ylim(0, 2 * max(found.cost_per_day[0], given["cost_per_day"]))
    lines = [*axes.get_lines(), *money.get_lines()]
    named = [line for line in lines if not str(line.get_label()).startswith("_")]
    # The curves leave no corner free.
    axes.figure.legend(
        named,
        [str(line.get_label()) for line in named],
        loc="outside lower center",
        ncols=2,
        frameon=False,
    )
