"""
Train a fraud model on what the topics hold, and let it serve if it is better.

Reads all transactions and labels, trains, judges on later days, registers a version in MLflow with
its artifacts, and moves `champion` to it if it beats the present one on the same days. The running
stream picks the new champion up by itself, within seconds.

- **window**: train on no more than this, such as `90d`; older transactions are history only. Empty:
  all that the topic holds.
- **label_delay**: within it labels arrive. So long a gap parts training from validation.

At most one run at a time. A run can be repeated: it makes another version, which serves only if it
is better. Should trainings race all the same, versions are decided on one after another, so that
`champion` never moves to a worse one.

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
    },
):

    @task(execution_timeout=timedelta(hours=6))
    def train(params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Train, register, and let the better one serve."""
        given = params or {}
        return run_trainer(
            "train", {"window": given["window"], "label_delay": given["label_delay"]}
        )

    train()
