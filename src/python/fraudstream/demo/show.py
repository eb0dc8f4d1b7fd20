"""The whole pipeline on one machine: history, training, live traffic, and what came of it."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from datetime import timedelta
import math
from pathlib import Path
import time
from typing import Any

import orjson
from rich.console import Console

from fraudstream.cli.steps import Steps
from fraudstream.demo.interrupts import Interrupts
from fraudstream.demo.report import Ledger
from fraudstream.demo.report import Truth
from fraudstream.demo.report import read_ledger
from fraudstream.demo.report import report
from fraudstream.demo.traffic import Traffic
from fraudstream.demo.view import LiveView
from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.stack.jars import FAST_COMPILER
from fraudstream.stack.jars import spark_home
from fraudstream.stack.kafka import KafkaBroker
from fraudstream.stack.mlflow import MlflowServer
from fraudstream.stack.process import Process
from fraudstream.stack.process import ProcessFailed
from fraudstream.stack.process import last_lines

# The simulator's cards make two and a half transactions a day on average, which says how fast
# simulated time runs at a given rate.
_TRANSACTIONS_PER_CARD_AND_DAY = 2.5
_ENDLESS_S = 3600.0

_POLL_S = 1.0
_VIEW_S = 0.5
# Spark fetches its Kafka connector the first time, so the first score may be minutes away.
_BACKLOG_STALL_S = 300.0
_DRAIN_STALL_S = 60.0
_STEP_S = 3600.0
_INFERENCE_STOP_S = 120.0


@dataclass(frozen=True)
class Apps:
    """Where the programs are: the three that ship, and MLflow's command line."""

    producer: Path
    trainer: Path
    inference: Path
    mlflow: Path


@dataclass(frozen=True)
class Plan:
    """What to show.

    Attributes
    ----------
    cards, seed
        The simulated world.
    history
        How much traffic there is to train on.
    rate
        Live transactions a second.
    live_s
        Seconds of live traffic; ``None``: until interrupted.
    """

    cards: int
    seed: int
    history: timedelta
    rate: float
    live_s: float | None


def simulation_start(plan: Plan, now: datetime) -> datetime:
    """Return when the simulation begins, so that its live part does not reach `now`.

    Simulated time runs faster than the clock, and no transaction may be dated in the future. An
    endless show is given the simulated time of one hour; a producer that comes to its end slows
    down to the clock.

    Parameters
    ----------
    plan
        How long the history is and how fast the live part runs.
    now
        Aware UTC.

    Examples
    --------
    >>> from datetime import UTC
    >>> plan = Plan(5_000, 0, timedelta(days=45), 200.0, 90.0)
    >>> simulation_start(plan, datetime(2026, 3, 1, 12, 34, tzinfo=UTC)).isoformat()
    '2026-01-12T00:00:00+00:00'
    """
    live_s = _ENDLESS_S if plan.live_s is None else plan.live_s
    days = live_s * plan.rate / (plan.cards * _TRANSACTIONS_PER_CARD_AND_DAY)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    # Days differ in how busy they are; half again as many are ample.
    return midnight - plan.history - timedelta(days=math.ceil(1.5 * days))


class Show:
    """One run of the demo.

    Parameters
    ----------
    apps, plan
        What to run, and how.
    folder
        Takes the data and the logs of everything that is started.
    cache
        Keeps the jars of Kafka and Spark, between runs.
    console
        Where people look.
    """

    def __init__(self, apps: Apps, plan: Plan, folder: Path, cache: Path, console: Console) -> None:
        self._apps = apps
        self._plan = plan
        self._folder = folder
        self._cache = cache
        self._console = console
        self._topics = Topics()
        self._steps = Steps(console)
        self._began = time.monotonic()
        self._first_alert_s: float | None = None
        self._truth = Truth(folder / "truth.jsonl")
        self._broker = KafkaBroker(folder / "kafka", cache)
        self._mlflow = MlflowServer([str(apps.mlflow)], folder / "mlflow")
        self._cluster = Cluster(self._broker.bootstrap_servers)

    def run(self, now: datetime, interrupts: Interrupts) -> dict[str, Any] | None:
        """Run everything, then stop everything.

        The first interrupt ends the live traffic as its end would; one before or after that ends
        the show without a report.

        Parameters
        ----------
        now
            Aware UTC: the simulation ends before it.
        interrupts
            Entered by the caller.

        Returns
        -------
        dict or None
            The report (see `fraudstream.demo.report.report`), or ``None`` if interrupted too early
            for one.

        Raises
        ------
        ProcessFailed
            If a program fails; the end of its log is told.
        BrokerUnreachable, UnknownTopic, TopicChanged
            If the topics cannot be read.
        """
        with ExitStack() as running:
            try:
                with interrupts.welcome():
                    self._start_stack(running)
                    world = self._world(now)
                    self._produce_history(world)
                    average_precision = self._train()
                    inference = self._start_inference(running)
                    traffic = self._traffic(running)
                    history = self._score_backlog(traffic, inference)
                    producer = self._start_live(running, world)
            except KeyboardInterrupt:
                return None
            live = Ledger()
            # What has been read from the topics has to reach the ledger whole.
            with interrupts.noted() as interrupted:
                self._watch(live, traffic, producer, inference, interrupted)
            try:
                with interrupts.welcome():
                    self._drain(live, traffic, producer, inference)
                    return self._report(len(history.transactions), average_precision)
            except KeyboardInterrupt:
                return None

    def _start_stack(self, running: ExitStack) -> None:
        with self._steps.step("start", "Starting Kafka, and MLflow beside it"):
            # A PEX unpacks itself when it first runs, the trainer's for half a minute: that goes on
            # while others are waited for. Whoever runs it meanwhile waits for what is left.
            unpacking = self._app("trainer", "train", "--help", log="unpacking")
            running.callback(unpacking.stop)
            unpacking.start()
            running.callback(self._mlflow.stop)
            self._mlflow.start()
            running.callback(self._broker.stop)
            self._broker.start()
            self._broker.wait_ready()

    def _world(self, now: datetime) -> list[str]:
        return [
            "--start",
            simulation_start(self._plan, now).isoformat(),
            "--cards",
            str(self._plan.cards),
            "--seed",
            str(self._plan.seed),
        ]

    def _produce_history(self, world: Sequence[str]) -> None:
        days = self._plan.history.days
        with self._steps.step("history", f"Producing {days} days of transactions") as tell:
            self._finish(self._app("producer", "topics", log="topics"), tell, lambda: "")
            simulate = self._app("producer", "simulate", *world, "--days", str(days), log="history")
            self._finish(simulate, tell, lambda: f"{self._produced():,} transactions")

    def _produced(self) -> int:
        return sum(span.high - span.low for span in spans(self._cluster, self._topics.transactions))

    def _train(self) -> float:
        with self._steps.step("train", "Training a model and registering it") as tell:
            self._mlflow.wait_ready()
            trained = self._folder / "train.json"
            trainer = self._app(
                "trainer", "train", "--tracking-uri", self._mlflow.uri, "--json", output=trained
            )
            self._finish(trainer, tell, lambda: last_lines(trainer.log, 1))
            result = orjson.loads(trained.read_bytes())
            average_precision = float(result["metrics"]["average_precision"])
            tell(f"average precision {average_precision:.3f}")
        return average_precision

    def _start_inference(self, running: ExitStack) -> Process:
        checkpoint = self._folder / "checkpoint"
        inference = self._app(
            "inference",
            "run",
            "--tracking-uri",
            self._mlflow.uri,
            "--checkpoint",
            str(checkpoint),
            environment={
                "SPARK_HOME": str(spark_home()),
                "FRAUDSTREAM_CACHE": str(self._cache),
                "JAVA_TOOL_OPTIONS": FAST_COMPILER,
            },
        )
        running.callback(inference.stop)
        inference.start()
        return inference

    def _traffic(self, running: ExitStack) -> Traffic:
        return running.enter_context(Traffic(self._cluster, self._topics))

    def _score_backlog(self, traffic: Traffic, inference: Process) -> Ledger:
        history = Ledger()
        with self._steps.step("backlog", "Scoring the history") as tell:
            for records in read(self._cluster, self._topics.transactions, traffic.before):
                history.add_transactions(records)
            total = len(history.transactions)

            def news() -> None:
                self._require(inference)
                tell(f"{total - history.lag:,} of {total:,}")

            if not self._settle(history, traffic, _BACKLOG_STALL_S, news):
                raise ProcessFailed(
                    inference.failure(
                        f"scored nothing for {_BACKLOG_STALL_S:.0f} s, "
                        f"with {history.lag:,} of {total:,} transactions to go"
                    )
                )
        return history

    def _start_live(self, running: ExitStack, world: Sequence[str]) -> Process:
        seconds = [] if self._plan.live_s is None else ["--seconds", f"{self._plan.live_s:g}"]
        producer = self._app(
            "producer",
            "simulate",
            "--live",
            *world,
            "--after-days",
            str(self._plan.history.days),
            "--rate",
            f"{self._plan.rate:g}",
            "--truth",
            str(self._folder / "truth.jsonl"),
            *seconds,
            log="live",
        )
        running.callback(producer.stop)
        producer.start()
        return producer

    def _watch(
        self,
        live: Ledger,
        traffic: Traffic,
        producer: Process,
        inference: Process,
        interrupted: Callable[[], bool],
    ) -> None:
        started = time.monotonic()
        try:
            with LiveView(self._console) as view:
                while producer.running and not interrupted():
                    self._require(inference)
                    traffic.poll(live, _VIEW_S)
                    self._truth.refresh()
                    shown = view.show(live, self._truth.is_fraud)
                    if shown.alerts and self._first_alert_s is None:
                        self._first_alert_s = round(time.monotonic() - self._began, 1)
        finally:
            self._steps.seconds["live"] = time.monotonic() - started

    def _drain(self, live: Ledger, traffic: Traffic, producer: Process, inference: Process) -> None:
        with self._steps.step("drain", "Stopping the traffic and scoring what is left") as tell:
            code = producer.stop()
            if code != 0:
                raise ProcessFailed(producer.failure(f"failed with exit code {code}"))
            # What was sent last may not have been followed yet.
            for records in read(self._cluster, self._topics.transactions, traffic.since()):
                live.add_transactions(records)
            self._truth.refresh()

            def news() -> None:
                self._require(inference)
                tell(f"{live.lag:,} to go")

            # If some are never scored, the report says so.
            self._settle(live, traffic, _DRAIN_STALL_S, news)
            code = inference.stop(_INFERENCE_STOP_S)
            if code != 0:
                raise ProcessFailed(inference.failure(f"did not stop well: exit code {code}"))

    def _report(self, history_transactions: int, average_precision: float) -> dict[str, Any]:
        with self._steps.step("report", "Reading the topics for the report"):
            ledger = read_ledger(self._cluster, self._topics)
        return report(
            ledger,
            self._truth.is_fraud,
            average_precision=average_precision,
            seconds={**self._steps.seconds, "total": time.monotonic() - self._began},
            history_transactions=history_transactions,
            first_alert_s=self._first_alert_s,
        )

    def _app(
        self,
        name: str,
        *arguments: str,
        log: str | None = None,
        output: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Process:
        return Process(
            f"{name}.pex {arguments[0]}",
            [
                str(getattr(self._apps, name)),
                *arguments,
                "--bootstrap-servers",
                self._broker.bootstrap_servers,
            ],
            self._folder / f"{log or name}.log",
            environment,
            output,
        )

    def _finish(self, app: Process, tell: Callable[[str], None], news: Callable[[], str]) -> None:
        deadline = time.monotonic() + _STEP_S
        try:
            app.start()
            while (code := app.wait(_POLL_S)) is None:
                self._require()
                tell(news())
                if time.monotonic() > deadline:
                    raise ProcessFailed(app.failure(f"was not done after {_STEP_S:.0f} s"))
        finally:
            app.stop()
        if code != 0:
            raise ProcessFailed(app.failure(f"failed with exit code {code}"))
        tell(news())

    def _settle(
        self, ledger: Ledger, traffic: Traffic, stall_s: float, news: Callable[[], None]
    ) -> bool:
        """Follow the traffic until nothing is open; tell whether that came to pass."""
        lag, deadline = ledger.lag, time.monotonic() + stall_s
        while ledger.lag and time.monotonic() < deadline:
            traffic.poll(ledger, _VIEW_S)
            news()
            if ledger.lag < lag:
                lag, deadline = ledger.lag, time.monotonic() + stall_s
        return ledger.lag == 0

    def _require(self, *processes: Process) -> None:
        for process in (self._broker, self._mlflow, *processes):
            if not process.running:
                raise ProcessFailed(process.failure(f"ended with exit code {process.wait(0)}"))
