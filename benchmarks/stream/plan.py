"""What a contender is told."""

from dataclasses import asdict
from dataclasses import dataclass
import json

from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics


@dataclass(frozen=True)
class Plan:
    """One run of a contender: from one topic, through features and model, to another.

    Attributes
    ----------
    bootstrap_servers
        Where Kafka is.
    source, destination
        Topics of transactions and of scores. The source may hold a backlog, and more may come: all
        of it is read, from the first record on, until the contender is killed.
    batch
        How many records may be taken at once, where that can be said.
    tasks
        How many tasks, workers or threads may work at the same time, where that can be said.
    bundle
        Folder of the model: see `fraudstream.model.bundle`.
    registry
        Address of the MLflow registry whose champion is that model.
    folder
        Empty; for state, checkpoints and the like.
    cache
        Keeps Spark's jars.
    jars
        Folder of the jars that the contender has asked for; empty if none.
    """

    bootstrap_servers: str
    source: str
    destination: str
    batch: int
    tasks: int
    bundle: str
    registry: str
    folder: str
    cache: str
    jars: str = ""

    @property
    def cluster(self) -> Cluster:
        """Where Kafka is."""
        return Cluster(self.bootstrap_servers)

    @property
    def topics(self) -> Topics:
        """All topics; those besides source and destination are the run's own, and named so."""
        own = self.destination
        return Topics(self.source, f"{own}-labels", f"{own}-predicted", own, f"{own}-refused")

    def to_json(self) -> str:
        """Return the plan as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Return the plan of a text that `to_json` gave.

        Examples
        --------
        >>> plan = Plan("localhost:9092", "in", "out", 10, 2, "/m", "sqlite:///r", "/f", "/c")
        >>> Plan.from_json(plan.to_json()) == plan
        True
        """
        return cls(**json.loads(text))
