"""Scored transactions whose truth is known, for tests of figures and thresholds."""

import numpy as np

from fraudstream.trainer.evaluate import Judged


def judged(seed: int, rows: int = 300, grid: int = 20) -> Judged:
    """Rows with many equal scores, of which each class has at least one."""
    random = np.random.default_rng(seed)
    is_fraud = random.random(rows) < 0.2
    is_fraud[:2] = [True, False]
    score = np.clip(random.normal(0.3 + 0.3 * is_fraud, 0.25), 0, 1)
    return Judged(
        score=np.round(score * grid) / grid,
        is_fraud=is_fraud,
        amount=np.round(random.exponential(50, rows), 2),
        day=np.sort(random.integers(0, 4, rows)),
        card=random.integers(0, 40, rows),
        compromised=random.random(rows) < 0.05,
    )
