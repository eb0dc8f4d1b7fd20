"""
Judge the models that have served, by the labels that have arrived since.

Joins the topic of scores with the topic of labels, and logs for each model version a run in
MLflow's experiment `fraudstream-live`, tagged with the version: average precision, card
precision@100, recall at fixed false-positive rates, alerts, money saved, and how many transactions
have no label.

- **period**: how much event time to judge.
- **label_delay**: within it labels arrive. Transactions that are not so old are not judged: of
  these, frauds are known long before the silence of the others counts.
- **until**: when the period ends. Empty: at the last midnight (UTC) that is old enough, in the time
  that the topics show.

A run can be repeated: the same period gives the same figures.

Started by hand; `FRAUDSTREAM_EVALUATE_SCHEDULE`, set for the DAG processor, gives it a schedule
(`@daily`, or cron). The worker runs the program at `FRAUDSTREAM_TRAINER`, with its own
`FRAUDSTREAM_*` settings. The result is the task's XCom. What went wrong is the last line of its
log; until the topics reach back farther than the label delay, that is that there is nothing to
evaluate.
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
    "evaluate_live",
    description="Judge the models that have served, by the labels that have arrived since.",
    doc_md=__doc__,
    tags=["fraudstream"],
    schedule=schedule("FRAUDSTREAM_EVALUATE_SCHEDULE"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    params={
        "period": Param(
            "7d",
            type="string",
            pattern=DURATION,
            title="Period",
            description="How much event time to judge; such as 7d or 12h.",
        ),
        "label_delay": Param(
            "7d",
            type="string",
            pattern=DURATION,
            title="Label delay",
            description="Within it labels arrive; such as 7d, 12h or 90m.",
        ),
        "until": Param(
            None,
            type=["null", "string"],
            format="date-time",
            title="Until",
            description="When the period ends; empty: the last midnight, UTC, that is old enough.",
        ),
    },
):

    @task(execution_timeout=timedelta(hours=1))
    def evaluate(params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Judge, and log for each model version."""
        given = params or {}
        return run_trainer(
            "evaluate", {name: given[name] for name in ("period", "label_delay", "until")}
        )

    evaluate()
