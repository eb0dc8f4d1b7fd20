"""What was measured, as tables, as JSON and as a picture, beside what the book published."""

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
import io
from itertools import groupby
from typing import Any

from matplotlib.figure import Figure
import numpy as np
import numpy.typing as npt
from rich.table import Table

from handbook.protocol import METRICS

#: The book's final table: mean over the four test folds, hyperparameters chosen on the validation
#: folds. (Le Borgne et al., 2022; the last row is the best of its chapter on imbalance.)
PUBLISHED = {
    "decision tree": (0.579, 0.797, 0.284),
    "logistic regression": (0.623, 0.868, 0.297),
    "random forest": (0.678, 0.870, 0.299),
    "XGBoost": (0.687, 0.869, 0.303),
    "feed-forward network": (0.675, 0.876, 0.303),
    "CNN": (0.599, 0.872, 0.288),
    "LSTM": (0.665, 0.876, 0.297),
    "LSTM with attention": (0.667, 0.874, 0.295),
    "balanced bagging": (0.680, 0.879, 0.305),
}

_TITLES = {
    "average_precision": "average precision",
    "auc_roc": "AUC ROC",
    "card_precision_100": "card precision@100",
}


@dataclass(frozen=True)
class Row:
    """What one model reached on one feature set with one length of training.

    Attributes
    ----------
    model, features
        By the names of the report.
    train_days
        ``None``: all labelled history.
    figures
        ``float64``, shape (seeds, folds, 3), in the order of `METRICS`.
    """

    model: str
    features: str
    train_days: int | None
    figures: npt.NDArray[np.float64]

    def of_folds(self) -> npt.NDArray[np.float64]:
        """Return the mean over seeds, shape (folds, 3)."""
        mean: npt.NDArray[np.float64] = self.figures.mean(axis=0)
        return mean


def report(
    rows: Iterable[Row], folds: Sequence[str], seeds: int, perfect_card_precision: float
) -> dict[str, Any]:
    """Return the report as JSON values; ``std`` is that of the folds."""
    return {
        "rows": [
            {"model": row.model, "features": row.features, "train_days": row.train_days}
            | {
                metric: {"mean": float(of_fold.mean()), "std": float(of_fold.std())}
                for metric, of_fold in zip(METRICS, row.of_folds().T, strict=True)
            }
            for row in rows
        ],
        "seeds": seeds,
        "folds": list(folds),
        "perfect_card_precision_100": perfect_card_precision,
        "published": {
            name: dict(zip(METRICS, figures, strict=True)) for name, figures in PUBLISHED.items()
        },
    }


def tables(rows: Sequence[Row], perfect_card_precision: float) -> list[Table]:
    """Return one table for each length of training, and that of the book."""
    found = []
    for days, some in groupby(rows, key=lambda row: row.train_days):
        table = _table(f"{_length(days)} of training, mean ± standard deviation of the folds")
        for row in some:
            of_fold = row.of_folds()
            table.add_row(
                row.model,
                row.features,
                *[
                    f"{mean:.3f} ± {std:.3f}"
                    for mean, std in zip(of_fold.mean(axis=0), of_fold.std(axis=0), strict=True)
                ],
            )
        found.append(table)
    published = _table("published, 7 days of training")
    for name, figures in PUBLISHED.items():
        published.add_row(name, "book", *[f"{figure:.3f}" for figure in figures])
    published.add_row(
        "a perfect classifier", "", "1", "1", f"{perfect_card_precision:.3f}", style="dim"
    )
    return [*found, published]


def paired_differences(rows: Sequence[Row]) -> list[str]:
    """Tell how far ours lies from the better of LightGBM and XGBoost, on the same folds."""
    by_name = {(row.model, row.features, row.train_days): row.of_folds()[:, 0] for row in rows}
    lines = []
    for (model, features, days), ours in by_name.items():
        peers = [
            (by_name[peer, features, days], peer)
            for peer in ("lightgbm", "xgboost")
            if (peer, features, days) in by_name
        ]
        if model == "fraudstream" and peers:
            best, peer = max(peers, key=lambda found: found[0].mean())
            difference = ours - best
            lines.append(
                f"{_length(days)}, {features} features: average precision against {peer} "
                f"{difference.mean():+.4f} (folds {', '.join(f'{d:+.4f}' for d in difference)})"
            )
    return lines


def picture(rows: Sequence[Row], perfect_card_precision: float) -> bytes:
    """Return the report as a PNG picture: a point a fold, a bar for their mean."""
    figure = Figure(figsize=(11, 1.5 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots(1, len(METRICS), sharey=True)
    names = [f"{row.model}, {row.features}, {_length(row.train_days)}" for row in rows]
    for number, (metric, one) in enumerate(zip(METRICS, axes, strict=True)):
        for place, row in enumerate(rows):
            of_fold = row.of_folds()[:, number]
            color = "tab:red" if row.model == "fraudstream" else "tab:blue"
            one.plot(of_fold, np.full(len(of_fold), place), ".", color=color, alpha=0.4)
            one.plot(of_fold.mean(), place, "|", markersize=14, color=color)
        best = max(figures[number] for figures in PUBLISHED.values())
        one.axvline(best, linestyle="--", color="gray", label=f"best published, {best:.3f}")
        if metric == "card_precision_100":
            one.axvline(perfect_card_precision, color="gray", label="perfect classifier")
        one.set(title=_TITLES[metric])
        one.legend(loc="lower left", fontsize="x-small")
    axes[0].set_yticks(range(len(rows)), names)
    axes[0].invert_yaxis()
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120, metadata={"Software": None})
    return content.getvalue()


def _table(title: str) -> Table:
    table = Table(title=title)
    table.add_column("model", no_wrap=True)
    table.add_column("features")
    for metric in METRICS:
        table.add_column(_TITLES[metric], justify="right")
    return table


def _length(days: int | None) -> str:
    return "all history" if days is None else f"{days} days"
