"""Prints what became of the traffic, counted by reading the topics: one JSON document.

The smoke test runs it in the producer's image, with the demo's report beside it.
"""

import json

import click

from fraudstream.cli.console import run
from fraudstream.demo.report import read_ledger
from fraudstream.kafka.options import kafka_options
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics


@click.command()
@kafka_options()
def ledger(cluster: Cluster, topics: Topics) -> None:
    """Count transactions, scores and dead letters, and the alerts of each model version."""
    found = read_ledger(cluster, topics)
    scored = found.transactions.keys() & found.scores.keys()
    refused = (found.transactions.keys() & found.refused) - scored
    versions = [alert["model_version"] for alert in found.alerts.values()]
    click.echo(
        json.dumps(
            {
                "transactions": len(found.transactions),
                "scored": len(scored),
                "dead_letters": len(refused),
                "open": found.lag,
                "scored_twice": len(found.repeated),
                "alerts": {version: versions.count(version) for version in sorted(set(versions))},
                "model_version": found.model[1] if found.model else None,
            }
        )
    )


if __name__ == "__main__":
    run(ledger)
