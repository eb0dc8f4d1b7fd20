"""What is served is the network, folded."""

import numpy as np
import pytest
import torch

from fraudstream.model.network import Encoding
from fraudstream.model.network import Network
from fraudstream.model.served import Served


def drawn(seed: int) -> tuple[Network, torch.Tensor]:
    """A network of any weights, and rows for it, some of them absent or far away."""
    torch.manual_seed(seed)
    rows = np.random.default_rng(seed).lognormal(0, 2, (500, 4))
    rows[::7, 1] = np.nan
    network = Network(Encoding(rows)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
    rows[::11, 2] *= 1e30
    return network, torch.from_numpy(rows.astype(np.float32))


@pytest.mark.parametrize("seed", range(5))
def test_what_is_served_gives_the_probabilities_of_the_network(seed: int) -> None:
    network, rows = drawn(seed)
    network.calibrate(0.7, -1.0)
    torch.testing.assert_close(Served(network)(rows), network(rows), atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1e-30, -1e-30, 1e-13, -1e-6])
def test_units_that_hardly_look_at_what_comes_in_are_constants(scale: float) -> None:
    network, rows = drawn(7)
    with torch.no_grad():
        network.scale_1[:, ::2] = scale
    torch.testing.assert_close(Served(network)(rows), network(rows), atol=2e-6, rtol=1e-4)


def test_the_network_is_left_as_it_was() -> None:
    network, rows = drawn(1)
    before = network(rows)
    Served(network)
    torch.testing.assert_close(network(rows), before, atol=0, rtol=0)
