"""The network: raw features in, calibrated probability of fraud out.

Numbers enter through piecewise-linear encodings (Gorishniy et al., "On Embeddings for Numerical
Features in Tabular Deep Learning", 2022): each feature is cut at its quantiles, and each piece
says how far the value has passed through it, from 0 to 1. Values of any scale become comparable,
outliers are bounded, and steep places, which decide here, get pieces of their own.

Behind them stands a small ensemble in the manner of TabM (Gorishniy et al., "TabM: Advancing
Tabular Deep Learning with Parameter-Efficient Ensembling", 2024): the members share their weight
matrices and differ by vectors that scale what goes in and out (BatchEnsemble; Wen et al., 2020).
Here the first layer, by far the widest, is computed once for all members, which makes serving
several times cheaper than an ensemble of networks.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

#: Quantiles at which a feature is cut: even ones, and finer ones near both ends.
_LEVELS = np.union1d(np.arange(9) / 8, [0.002, 0.01, 0.02, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999])
#: Quantiles of the frauds' values at which it is cut too. Frauds are so few that they move no
#: quantile of all values, and it is among them that a feature has to be told finely.
_LEVELS_OF_FRAUDS = np.arange(17) / 16
#: The narrowest piece, relative to the values at its ends: float32 tells no finer ones apart.
_NARROWEST = 1e-5
#: Where a probability is cut off before its logit is taken.
_SMALLEST = 1e-7
_ROWS_PER_PASS = 8192


@dataclass(frozen=True)
class Shape:
    """Sizes of the network.

    Parameters
    ----------
    members
        Of the ensemble.
    first, second
        Widths of the two hidden layers.
    dropout
        Share of hidden units dropped in training, in [0, 1).
    """

    members: int = 8
    first: int = 96
    second: int = 48
    dropout: float = 0.25


class Encoding(nn.Module):
    """Piecewise-linear encodings of features, and flags for absent ones; nothing is trained.

    A feature that is constant in the training data has no pieces. One that is never absent there
    has no flag, and counts as its median where it is absent later.

    Parameters
    ----------
    features
        Training data, shape (n, k), NaN where absent.
    is_fraud
        Which of its rows are frauds, shape (n,). ``None``: cut by all rows alike.

    Attributes
    ----------
    width
        Number of values that a row is encoded in.

    Examples
    --------
    >>> encoding = Encoding(np.array([[0.0], [1.0], [np.nan]], dtype=np.float32))
    >>> row = encoding(torch.tensor([[float("nan")]]))
    >>> row.shape == (1, encoding.width), row[0, -1].item()
    (True, 1.0)
    """

    source: torch.Tensor
    lower: torch.Tensor
    scale: torch.Tensor
    flagged: torch.Tensor
    fill: torch.Tensor

    def __init__(
        self, features: npt.NDArray[np.floating], is_fraud: npt.NDArray[np.bool_] | None = None
    ) -> None:
        super().__init__()
        frauds = np.zeros(len(features), dtype=np.bool_) if is_fraud is None else is_fraud
        source: list[int] = []
        lower: list[float] = []
        scale: list[float] = []
        flagged: list[int] = []
        fill: list[float] = []
        for number, column in enumerate(np.asarray(features, dtype=np.float32).T):
            here = ~np.isnan(column)
            present = column[here].astype(np.float64)
            edges = _edges(present, frauds[here])
            source += [number] * (len(edges) - 1)
            lower += edges[:-1].tolist()
            scale += (1 / np.diff(edges)).tolist()
            if len(present) < len(column):
                flagged.append(number)
                # All pieces of an absent value are 0; the flag says that it is absent.
                fill.append(edges[0] if len(edges) else 0.0)
            else:
                fill.append(float(np.median(present)))
        if not source and not flagged:
            raise ValueError("expected a feature that varies, every one is constant")
        self.register_buffer("source", torch.tensor(source, dtype=torch.int64))
        self.register_buffer("lower", torch.tensor(lower, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.register_buffer("flagged", torch.tensor(flagged, dtype=torch.int64))
        self.register_buffer("fill", torch.tensor(fill, dtype=torch.float32))
        self.width = len(source) + len(flagged)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Encode raw features, shape (n, k), as values in [0, 1], shape (n, width)."""
        absent = torch.isnan(features)
        filled = torch.where(absent, self.fill, features)
        # A difference first, a product second: the other way round loses the digits of a value
        # that is large beside its piece.
        passed = (filled[:, self.source] - self.lower) * self.scale
        flags = absent[:, self.flagged].to(passed.dtype)
        return torch.cat([passed.clamp(0, 1), flags], dim=1)


class Network(nn.Module):
    """An ensemble of two-layer networks on encoded features.

    Parameters
    ----------
    encoding
        Fitted on the training data.
    shape
        See `Shape`.

    Examples
    --------
    >>> features = np.array([[0.0, 1.0], [1.0, np.nan]], dtype=np.float32)
    >>> network = Network(Encoding(features))
    >>> network(torch.from_numpy(features)).shape
    torch.Size([2])
    """

    gain: torch.Tensor
    offset: torch.Tensor

    def __init__(self, encoding: Encoding, shape: Shape | None = None) -> None:
        super().__init__()
        shape = shape or Shape()
        self.shape = shape
        self.encoding = encoding
        self.shared = nn.Linear(encoding.width, shape.first, bias=False)
        # Random signs make the members differ from the start; see TabM, section 3.
        signs = torch.randint(0, 2, (shape.members, shape.first)) * 2.0 - 1.0
        self.scale_1 = nn.Parameter(signs)
        self.bias_1 = nn.Parameter(torch.empty(shape.members, shape.first).uniform_(-0.1, 0.1))
        self.enter_2 = nn.Parameter(torch.ones(shape.members, shape.first))
        self.mixed = nn.Linear(shape.first, shape.second, bias=False)
        self.scale_2 = nn.Parameter(torch.ones(shape.members, shape.second))
        self.bias_2 = nn.Parameter(torch.empty(shape.members, shape.second).uniform_(-0.1, 0.1))
        bound = shape.second**-0.5
        self.head = nn.Parameter(torch.empty(shape.members, shape.second).uniform_(-bound, bound))
        self.bias_3 = nn.Parameter(torch.zeros(shape.members))
        self.dropout = nn.Dropout(shape.dropout)
        self.register_buffer("gain", torch.tensor(1.0))
        self.register_buffer("offset", torch.tensor(0.0))

    def logits(self, encoded: torch.Tensor) -> torch.Tensor:
        """Return each member's logit, shape (n, members), of rows that are encoded already."""
        hidden = self.shared(encoded).unsqueeze(1)
        hidden = self._drop(torch.relu(hidden * self.scale_1 + self.bias_1))
        hidden = self.mixed(hidden * self.enter_2)
        hidden = self._drop(torch.relu(hidden * self.scale_2 + self.bias_2))
        return (hidden * self.head).sum(dim=2) + self.bias_3

    def _drop(self, hidden: torch.Tensor) -> torch.Tensor:
        # One draw serves all members: random numbers would cost more than the layers do.
        return hidden * self.dropout(torch.ones_like(hidden[:, :1])) if self.training else hidden

    def raw_logit(self, encoded: torch.Tensor) -> torch.Tensor:
        """Return the logit of the members' mean probability, shape (n,), before calibration."""
        return _pooled(self.logits(encoded))

    def calibrate(self, gain: float, offset: float) -> None:
        """Make the probability ``sigmoid(gain * raw_logit + offset)``.

        Raises
        ------
        ValueError
            If `gain` is not above 0: calibration must leave the ranking as it is.
        """
        if not gain > 0:
            raise ValueError(f"expected a gain above 0, got {gain}")
        self.gain.fill_(gain)
        self.offset.fill_(offset)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the probability of fraud, shape (n,), of raw features, shape (n, k)."""
        return self.probability(self.logits(self.encoding(features)))

    def probability(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the calibrated probability, shape (n,), of members' logits, shape (n, members)."""
        return torch.sigmoid(self.gain * _pooled(logits) + self.offset)


def _pooled(logits: torch.Tensor) -> torch.Tensor:
    """Return the logit of the members' mean probability."""
    mean = torch.sigmoid(logits).mean(dim=1).clamp(_SMALLEST, 1 - _SMALLEST)
    return torch.log(mean / (1 - mean))


def predict(network: Network, features: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Return the network's probabilities, shape (n,), of raw features, shape (n, k).

    This is the reference that the exported model is compared with.
    """
    network.cpu().eval()
    with torch.inference_mode():
        parts = [
            network(torch.from_numpy(features[start : start + _ROWS_PER_PASS].astype(np.float32)))
            for start in range(0, len(features), _ROWS_PER_PASS)
        ]
    return torch.cat(parts).numpy().astype(np.float64) if parts else np.empty(0)


def _edges(
    present: npt.NDArray[np.float64], is_fraud: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return the places at which a feature is cut, increasing; fewer than two if it is constant."""
    if not len(present):
        return np.empty(0)
    candidates = np.quantile(present, _LEVELS, method="nearest")
    if is_fraud.any() and not is_fraud.all():
        frauds, legitimate = present[is_fraud], present[~is_fraud]
        candidates = np.concatenate(
            [
                candidates,
                np.quantile(frauds, _LEVELS_OF_FRAUDS, method="nearest"),
                # Where one class ends, there may be a step.
                [legitimate.min(), legitimate.max()],
            ]
        )
    candidates = np.unique(candidates)
    kept = [candidates[0]]
    for edge in candidates[1:]:
        if edge - kept[-1] > _NARROWEST * max(abs(edge), abs(kept[-1])):
            kept.append(edge)
    return np.array(kept)
