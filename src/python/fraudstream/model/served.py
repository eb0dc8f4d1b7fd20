"""The network as it is served: the same function, in the form that costs onnxruntime least.

Rows are columns here, one behind the other, so that what is done to one value of each row is done
to numbers that lie side by side. And what members do for themselves is folded into matrices, since
onnxruntime multiplies matrices far faster than it takes steps number by number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import logging
from typing import cast
import warnings

import torch
from torch import nn

from fraudstream.model.network import Network

#: What onnxruntime 1.32 and all its recent predecessors run.
OPSET = 18

#: A scale below it is none: what is divided by it has to stay within float32.
_NO_SCALE = 1e-12
_ENDLESS = torch.finfo(torch.float32).max


class Served(nn.Module):
    """A network, calibrated, with its probabilities to within rounding.

    A unit of a member's first layer is ``relu(s h + b)``, of what all members share, ``h``. For
    ``s > 0`` that is ``s max(h, -b/s) + b``, and for ``s < 0`` it is ``s min(h, -b/s) + b``. So
    a step up and a step down remain, and ``s`` and ``b`` go into the next layer, of which each
    member gets a matrix of its own with all its vectors in it.

    Parameters
    ----------
    network
        It is not changed.

    Examples
    --------
    >>> import numpy as np
    >>> from fraudstream.model.network import Encoding
    >>> features = np.array([[0.0, 1.0], [1.0, np.nan]], dtype=np.float32)
    >>> network = Network(Encoding(features)).eval()
    >>> rows = torch.from_numpy(features)
    >>> torch.allclose(Served(network)(rows), network(rows), atol=1e-6)
    True
    """

    source: torch.Tensor
    lower: torch.Tensor
    scale: torch.Tensor
    flagged: torch.Tensor
    fill: torch.Tensor
    first: torch.Tensor
    lowest: torch.Tensor
    highest: torch.Tensor
    second: torch.Tensor
    bias_2: torch.Tensor
    head: torch.Tensor
    bias_3: torch.Tensor

    def __init__(self, network: Network) -> None:
        super().__init__()
        self._network = network
        encoding = network.encoding
        self.register_buffer("source", encoding.source)
        self.register_buffer("flagged", encoding.flagged)
        for name in ("lower", "scale", "fill"):
            self.register_buffer(name, getattr(encoding, name).unsqueeze(1))

        with torch.no_grad():
            scale, bias = network.scale_1.double(), network.bias_1.double()
            is_constant = scale.abs() < _NO_SCALE
            scale = scale.masked_fill(is_constant, 0)
            bias = torch.where(is_constant, bias.relu(), bias)
            step = (-bias / scale).clamp(-_ENDLESS, _ENDLESS)
            second = (
                network.mixed.weight.double()
                * network.enter_2.double().unsqueeze(1)
                * network.scale_2.double().unsqueeze(2)
            )
            folded = {
                "first": network.shared.weight,
                "lowest": torch.where(scale > 0, step, -_ENDLESS).unsqueeze(2),
                "highest": torch.where(scale < 0, step, _ENDLESS).unsqueeze(2),
                "second": second * scale.unsqueeze(1),
                "bias_2": network.bias_2.double().unsqueeze(2) + second @ bias.unsqueeze(2),
                "head": network.head.unsqueeze(1),
                "bias_3": network.bias_3.unsqueeze(1),
            }
        for name, tensor in folded.items():
            self.register_buffer(name, tensor.detach().float())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return the probability of fraud, shape (n,), of raw features, shape (n, k)."""
        columns = features.t()
        absent = torch.isnan(columns)
        filled = torch.where(absent, self.fill, columns)
        passed = (filled.index_select(0, self.source) - self.lower) * self.scale
        flags = absent.index_select(0, self.flagged).to(passed.dtype)
        encoded = torch.cat([passed.clamp(0, 1), flags], dim=0)

        hidden = torch.maximum(self.first @ encoded, self.lowest)
        hidden = torch.minimum(hidden, self.highest)
        hidden = torch.relu(self.second @ hidden + self.bias_2)
        logits = (self.head @ hidden).squeeze(1) + self.bias_3
        return self._network.probability(logits.t())


def export(network: Network) -> bytes:
    """Return the network as an ONNX file: ``features`` (n, k) in, ``score`` (n,) out, n free.

    The exporter is the one that traces with ``torch.export``; the older one, by TorchScript, is
    deprecated. `OPSET` is fixed, so that what is written does not change with torch.
    """
    served = Served(network.cpu().eval()).eval()
    columns = len(network.encoding.fill)
    # Two rows: the exporter takes a size of 1 for a constant.
    example = torch.zeros((2, columns), dtype=torch.float32)
    with _quiet():
        program = torch.onnx.export(
            served,
            (example,),
            input_names=["features"],
            output_names=["score"],
            dynamic_shapes=({0: torch.export.Dim("rows")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    # It is None only for the older exporter, which writes a file itself.
    return cast(torch.onnx.ONNXProgram, program).model_proto.SerializeToString()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own talk, none of it about our network, out of the logs."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
