"""What one writes first with Spark: a state per card, and the model as a function of MLflow.

Card features alone: Spark refuses a second `applyInPandasWithState` behind the first, which a
merchant's history would need. So the others are absent, and this does less than it should.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from functools import partial
from pathlib import Path
import pickle
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from pyspark.sql import functions as sf
from pyspark.sql.streaming.state import GroupState
from pyspark.sql.streaming.state import GroupStateTimeout
from stream.contenders.spark import read
from stream.contenders.spark import session_for
from stream.contenders.spark import write
from stream.plan import Plan
from stream.scorer import Memory
from stream.scorer import of_cards

from fraudstream.features.definitions import FeatureSet
from fraudstream.features.sets import DEFAULT
from fraudstream.inference.steps import matrix_of
from fraudstream.model.bundle import load_bundle

_OF_CARDS = FeatureSet("cards", 1, tuple(f for f in DEFAULT.features if f.key in (None, "card")))
_THEIR_PLACES = [DEFAULT.names.index(name) for name in _OF_CARDS.names]
_READ = ("key", "partition", "offset", "ms", "value")
_FOUND = ", ".join(["transaction_id string", *(f"{name} double" for name in DEFAULT.names)])


class Model(mlflow.pyfunc.PythonModel):  # type: ignore[name-defined]
    """The bundle's network, as MLflow serves models."""

    def load_context(self, context: Any) -> None:
        """Load the bundle."""
        self._bundle = load_bundle(Path(context.artifacts["bundle"]), DEFAULT)

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        """Score rows of features, one column each."""
        return self._bundle.score(model_input.to_numpy(np.float64))


def run(plan: Plan) -> None:
    """Group by card, keep its history as state, score, write."""
    spark = session_for(plan)
    folder = f"{plan.folder}/pyfunc"
    mlflow.pyfunc.save_model(folder, python_model=Model(), artifacts={"bundle": plan.bundle})
    score = mlflow.pyfunc.spark_udf(spark, folder, "double", env_manager="local")
    features = (
        read(spark, plan)
        .withColumn("ms", sf.unix_millis("timestamp"))
        .select(*_READ)
        .groupBy("key")
        .applyInPandasWithState(
            partial(of_card, plan.source),
            _FOUND,
            "history binary",
            "append",
            GroupStateTimeout.NoTimeout,
        )
        # Lets all pass: a function in Python cannot take rows straight from a state in Spark 4.2.
        .where("transaction_id is not null")
    )
    scores = score(sf.struct(*DEFAULT.names))
    document = sf.to_json(sf.struct("transaction_id", scores.alias("score")))
    scored = features.select(sf.col("transaction_id").alias("key"), document.alias("value"))
    write(scored, plan).awaitTermination()


def of_card(
    source: str, key: tuple[bytes], parts: Iterable[pd.DataFrame], state: GroupState
) -> Iterator[pd.DataFrame]:
    """Compute the features of one card's transactions of a batch, and keep its history."""
    history: Memory = pickle.loads(state.get[0]) if state.exists else Memory()  # noqa: S301
    rows = pd.concat(parts).sort_values("offset")
    partition, offset, ms, value = (rows[name].to_list() for name in _READ[1:])
    found = of_cards(_OF_CARDS, (source, partition[0]), 0, offset, ms, value, history)
    state.update((pickle.dumps(history),))
    features = np.full((len(found), len(DEFAULT.names)), np.nan)
    features[:, _THEIR_PLACES] = matrix_of(_OF_CARDS, found)
    told = pd.DataFrame(features, columns=DEFAULT.names)
    told.insert(0, "transaction_id", found["transaction_id"].to_pylist())
    yield told
