"""The inference app itself, started by its command line."""

from stream.plan import Plan

from fraudstream.cli.console import run as run_app
from fraudstream.inference.main import inference


def run(plan: Plan) -> None:
    """Run the app as it ships, but for the size of its batches."""
    topics = plan.topics
    flags = {
        "bootstrap-servers": plan.bootstrap_servers,
        "transactions-topic": topics.transactions,
        "labels-topic": topics.labels,
        "predicted-topic": topics.predicted,
        "scores-topic": topics.scores,
        "dead-letters-topic": topics.dead_letters,
        "tracking-uri": plan.registry,
        "checkpoint": f"{plan.folder}/checkpoint",
        "cache": plan.cache,
        "master": f"local[{plan.tasks}]",
        "tasks": plan.tasks,
        "most-records": plan.batch,
    }
    run_app(inference, ["run", *(f"--{name}={value}" for name, value in flags.items())])
