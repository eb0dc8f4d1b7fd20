"""
Train a fraud model on what the topics hold, and let it serve if it is better.

Reads all transactions and labels, trains, judges on later days, registers a version in MLflow with
its artifacts, and moves `champion` to it if it beats the present one on the same days, by more than
noise. The running stream picks the new champion up by itself, within seconds.

- **window**: train on no more than this, such as `90d`; older transactions are history only. Empty:
  all that the topic holds.
- **label_delay**: within it labels arrive. So long a gap parts training from validation.
- **min_precision**, **alerts_per_day**, **false_positive_rate**, **least_cost**: how the threshold
  is chosen, by one of them at most. By none: as the worker's settings say, or with a precision of
  at least 0.9.

At most one run at a time. A run can be repeated: it makes another version, which serves only if it
is better. Should trainings race all the same, versions are decided on one after another, so that
`champion` never moves to a worse one. `trainer.pex promote --previous` undoes a decision.

Started by hand; `FRAUDSTREAM_TRAIN_SCHEDULE`, set for the DAG processor, gives it a schedule (cron,
or `@weekly`). The worker runs the program at `FRAUDSTREAM_TRAINER`, with its own `FRAUDSTREAM_*`
settings. The result, figures included, is the task's XCom. What went wrong is the last line of its
log.
"""

from datetime import UTC
from datetime import datetime
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG
from airflow.sdk import Param
from airflow.sdk import task
from trainer_app import DURATION
from trainer_app import run_trainer
from trainer_app import schedule

with DAG(
    "train_fraud_model",
    description="Train on what the topics hold; the better model serves.",
    doc_md=__doc__,
    tags=["fraudstream"],
    schedule=schedule("FRAUDSTREAM_TRAIN_SCHEDULE"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    params={
        "window": Param(
            None,
            type=["null", "string"],
            pattern=DURATION,
            title="Training window",
            description="Such as 90d, 12h or 90m; empty: all that the topic holds.",
        ),
        "label_delay": Param(
            "7d",
            type="string",
            pattern=DURATION,
            title="Label delay",
            description="Within it labels arrive; such as 7d, 12h or 90m.",
        ),
        "min_precision": Param(
            None,
            type=["null", "number"],
            minimum=0,
            maximum=1,
            title="Least precision",
            description="Threshold with the most recall at this precision, such as 0.9.",
        ),
        "alerts_per_day": Param(
            None,
            type=["null", "number"],
            exclusiveMinimum=0,
            title="Alerts a day",
            description="Or with no more alerts a day than this.",
        ),
        "false_positive_rate": Param(
            None,
            type=["null", "number"],
            minimum=0,
            maximum=1,
            title="False-positive rate",
            description="Or with no larger share of the legitimate ones flagged, such as 0.001.",
        ),
        "least_cost": Param(
            False,
            type="boolean",
            title="Least cost",
            description="Or with the least cost of frauds missed and of investigation.",
        ),
    },
):

    @task(execution_timeout=timedelta(hours=6))
    def train(params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Train, register, and let the better one serve."""
        given = params or {}
        options = (
            "window",
            "label_delay",
            "min_precision",
            "alerts_per_day",
            "false_positive_rate",
            "least_cost",
        )
        return run_trainer("train", {name: given[name] for name in options})

    train()
