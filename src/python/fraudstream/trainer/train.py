"""The training loop: rows in, a calibrated network out."""

from collections.abc import Callable
import copy
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from fraudstream.model.network import Encoding
from fraudstream.model.network import Network
from fraudstream.model.network import Shape

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_ROWS_PER_PASS = 8192
_STEPS_AT_LEAST = 50
#: Before these epochs, counted from 0, the network is asked which legitimate rows are hard.
_LOOKS_FOR_HARD = (1, 3)


class NothingLearned(ValueError):
    """The network ranks frauds no better than chance, so no calibration can help."""


@dataclass(frozen=True)
class Settings:
    """How to train; what is not said here does not influence the result.

    The defaults were chosen on the validation folds of ``benchmarks/handbook``, which tells how.

    Parameters
    ----------
    seed
        Of the weights and of every draw. On one kind of processor, and with one number of
        threads, the same seed and data give the same network.
    epochs
        At most so many.
    patience
        Training stops after so many epochs without a better average precision on the selection
        rows; the best network is kept.
    negatives_per_fraud
        Each epoch sees all frauds, and so many times as many legitimate rows.
    hard_share
        So many of these are the legitimate rows that look most like fraud to the network of the
        first epochs, in [0, 1); the rest are drawn anew from the others, and weigh as much as all
        of those. Fewer rows then teach as much as all would: where frauds and legitimate rows
        are hard to tell apart, none is missed.
    batch
        Rows of a step. Fewer where an epoch would otherwise have less than fifty steps.
    learning_rate, weight_decay
        Of AdamW; the rate rises over the first steps and falls along a cosine to nothing.
    shape
        Of the network.
    """

    seed: int = 0
    epochs: int = 12
    patience: int = 4
    negatives_per_fraud: float = 25.0
    hard_share: float = 0.5
    batch: int = 256
    learning_rate: float = 1e-2
    weight_decay: float = 0.1
    shape: Shape = field(default_factory=Shape)


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave: mean loss on its rows, average precision on the selection rows."""

    loss: float
    average_precision: float


@dataclass(frozen=True)
class Trained:
    """A network, on the CPU and calibrated, and how it came about.

    Attributes
    ----------
    network
        The best of all epochs.
    epochs
        One entry an epoch.
    gain, offset
        The calibration.
    """

    network: Network
    epochs: list[Epoch]
    gain: float
    offset: float


def train(
    features: Float64,
    is_fraud: Mask,
    selection_features: Float64,
    selection_is_fraud: Mask,
    settings: Settings,
    advance: Callable[[float], None],
    threads: int = 2,
) -> Trained:
    """Train a network, stop when it no longer gets better, and calibrate it.

    Parameters
    ----------
    features, is_fraud
        The training rows, shapes (n, k) and (n,), NaN where a feature is absent.
    selection_features, selection_is_fraud
        Later rows, for early stopping and calibration.
    settings
        See `Settings`.
    advance
        Called after each epoch with the number of epochs done by it; after the last with all that
        are then not needed.
    threads
        How many the CPU's part of the work takes. Another number may change the last digits.

    Raises
    ------
    NothingLearned
        If the network ranks the selection rows no better than chance.
    """
    epochs: list[Epoch] = []
    best: dict[str, torch.Tensor] = {}
    best_epoch = 0

    def watch(network: Network, loss: float) -> bool:
        nonlocal best, best_epoch
        raw = raw_logits(network, selection_features)
        epochs.append(Epoch(loss, float(average_precision_score(selection_is_fraud, raw))))
        if not best or epochs[-1].average_precision > epochs[best_epoch].average_precision:
            best_epoch = len(epochs) - 1
            best = copy.deepcopy(network.state_dict())
        stop = len(epochs) - 1 - best_epoch >= settings.patience
        advance(settings.epochs - len(epochs) + 1 if stop else 1)
        return stop

    network = fit(features, is_fraud, settings, watch, threads)
    network.load_state_dict(best)
    gain, offset = platt(raw_logits(network, selection_features), selection_is_fraud)
    if gain <= 0:
        raise NothingLearned(
            f"the network learned nothing: its average precision is "
            f"{epochs[best_epoch].average_precision:.4f} where "
            f"{np.mean(selection_is_fraud):.4f} of the rows are frauds; check that the labels "
            "belong to these transactions"
        )
    network.calibrate(gain, offset)
    return Trained(network, epochs, gain, offset)


def fit(
    features: npt.NDArray[np.floating],
    is_fraud: Mask,
    settings: Settings,
    watch: Callable[[Network, float], bool] = lambda network, loss: False,
    threads: int = 2,
) -> Network:
    """Train a network for all epochs, without rows to stop by or to calibrate on.

    Parameters
    ----------
    features, is_fraud, settings, threads
        As of `train`; of both classes there is at least one row.
    watch
        Called after each epoch with the network and the mean loss; training ends where it returns
        true.

    Returns
    -------
    Network
        As the last epoch left it, on the CPU.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    draw = np.random.default_rng(settings.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = Network(Encoding(features, is_fraud), settings.shape).to(device)
    inputs = torch.from_numpy(features.astype(np.float32))
    targets = torch.from_numpy(is_fraud.astype(np.float32))
    sample = _Sample.of(is_fraud, settings)
    batch = max(1, min(settings.batch, sample.size // _STEPS_AT_LEAST))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=settings.learning_rate,
        total_steps=settings.epochs * -(-sample.size // batch),
        pct_start=0.1,
    )
    for number in range(settings.epochs):
        if number in _LOOKS_FOR_HARD and sample.hard_at_most:
            sample = sample.around(raw_logits(network, features[sample.legitimate]))
        network.train()
        chosen, weights = sample.draw(draw)
        loss_sum = 0.0
        for start in range(0, len(chosen), batch):
            rows = torch.from_numpy(chosen[start : start + batch])
            weight = torch.from_numpy(weights[start : start + batch]).to(device).unsqueeze(1)
            logits = network.logits(network.encoding(inputs[rows].to(device)))
            # Each member learns by itself: were the mean trained, members would lean on each other.
            wanted = targets[rows].to(device).unsqueeze(1).expand_as(logits)
            loss = binary_cross_entropy_with_logits(logits, wanted, weight)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            loss_sum += loss.item() * len(rows)
        if watch(network, loss_sum / len(chosen)):
            break
    return network.cpu().eval()


@dataclass(frozen=True)
class _Sample:
    """What an epoch sees: all frauds, the hard legitimate rows, and some of the easy ones."""

    frauds: Int64
    hard: Int64
    easy: Int64
    drawn: int
    hard_at_most: int

    @classmethod
    def of(cls, is_fraud: Mask, settings: Settings) -> "_Sample":
        frauds, legitimate = np.flatnonzero(is_fraud), np.flatnonzero(~is_fraud)
        drawn = min(len(legitimate), int(settings.negatives_per_fraud * len(frauds)))
        hard = int(settings.hard_share * drawn) if drawn < len(legitimate) else 0
        return cls(frauds, np.empty(0, np.int64), legitimate, drawn, hard)

    @property
    def size(self) -> int:
        return len(self.frauds) + self.drawn

    @property
    def legitimate(self) -> Int64:
        return np.concatenate([self.hard, self.easy])

    def around(self, logits: Float64) -> "_Sample":
        """Take the legitimate rows with the highest of these logits as hard."""
        order = self.legitimate[np.argsort(-logits, kind="stable")]
        return replace(self, hard=order[: self.hard_at_most], easy=order[self.hard_at_most :])

    def draw(self, draw: np.random.Generator) -> tuple[Int64, npt.NDArray[np.float32]]:
        """Return rows in random order, and their weights, of mean 1."""
        some = draw.choice(self.easy, self.drawn - len(self.hard), replace=False)
        rows = np.concatenate([self.frauds, self.hard, some])
        weights = np.ones(len(rows), dtype=np.float32)
        weights[len(self.frauds) + len(self.hard) :] = len(self.easy) / len(some)
        order = draw.permutation(len(rows))
        return rows[order], (weights / weights.mean())[order]


def raw_logits(network: Network, features: npt.NDArray[np.floating]) -> Float64:
    """Return the network's logits before calibration, shape (n,), of raw features."""
    network.eval()
    device = network.gain.device
    with torch.inference_mode():
        parts = [
            network.raw_logit(
                network.encoding(
                    torch.from_numpy(
                        features[start : start + _ROWS_PER_PASS].astype(np.float32)
                    ).to(device)
                )
            ).cpu()
            for start in range(0, len(features), _ROWS_PER_PASS)
        ]
    return torch.cat(parts).numpy().astype(np.float64)


def platt(logits: Float64, is_fraud: Mask) -> tuple[float, float]:
    """Return gain and offset that make ``sigmoid(gain * logit + offset)`` a probability.

    Newton's method on the log loss, with the targets that Platt proposes ("Probabilistic Outputs
    for Support Vector Machines", 1999), which keep it finite where the classes do not overlap.

    Examples
    --------
    >>> logits = np.repeat([-1.0, 1.0], 1000)
    >>> is_fraud = np.arange(2000) % 1000 < np.repeat([100, 800], 1000)
    >>> gain, offset = platt(logits, is_fraud)
    >>> [round(float(1 / (1 + np.exp(-gain * x - offset))), 2) for x in (-1, 1)]
    [0.1, 0.8]
    """
    frauds = np.count_nonzero(is_fraud)
    legitimate = len(is_fraud) - frauds
    target = np.where(is_fraud, (frauds + 1) / (frauds + 2), 1 / (legitimate + 2))
    inputs = np.column_stack([logits, np.ones(len(logits))])

    def loss(weights: Float64) -> float:
        z = inputs @ weights
        return float(np.sum(np.logaddexp(0, z) - target * z))

    weights = np.array([0.0, np.log((frauds + 1) / (legitimate + 1))])
    for _ in range(100):
        probability = 1 / (1 + np.exp(-np.clip(inputs @ weights, -500, 500)))
        gradient = inputs.T @ (probability - target)
        curvature = (inputs * (probability * (1 - probability))[:, np.newaxis]).T @ inputs
        step = np.linalg.solve(curvature + 1e-9 * np.eye(2), gradient)
        # A full step may overshoot far from the minimum, so it is halved until it descends.
        length = 1.0
        while loss(weights - length * step) > loss(weights) and length > 1e-6:
            length /= 2
        weights = weights - length * step
        if np.abs(length * step).max() < 1e-9:
            break
    return float(weights[0]), float(weights[1])
