"""Mutated records through the stream's own decoder and first step, and what must be true then."""

from collections import Counter
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from datetime import UTC
from datetime import datetime
from functools import cache
from pathlib import Path
from random import Random
import tempfile
from typing import Any

from fuzzing.mutations import mutated
import jsonschema
import orjson
import pyarrow as pa

from fraudstream.features.sets import DEFAULT
from fraudstream.inference.embedded import EmbeddedState
from fraudstream.inference.embedded import close_all
from fraudstream.inference.scoring import Destinations
from fraudstream.inference.scoring import dead_letters
from fraudstream.inference.steps import HANDED_ON
from fraudstream.inference.steps import REJECTED
from fraudstream.inference.steps import of_kind
from fraudstream.inference.tasks import Settings
from fraudstream.inference.tasks import Untold
from fraudstream.inference.tasks import first_task
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.schema.card_numbers import holds_card_number
from fraudstream.schema.card_numbers import masked
from fraudstream.schema.timestamps import CLOCK_TOLERANCE
from fraudstream.schema.timestamps import to_us
from fraudstream.schema.validation import DEAD_LETTER
from fraudstream.schema.validation import LABEL
from fraudstream.schema.validation import TRANSACTION
from fraudstream.schema.validation import load_schema
from fraudstream.schema.validation import validator
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import WorldSpec

#: Records of one part of a campaign, a third of them labels. A part has a seed and a state of its
#: own, so that what comes of it does not depend on how many work.
PART = 20_000
#: So many records come to the decoder at once, as from Spark.
_AT_ONCE = 10_000
_START = datetime(2026, 1, 1, tzinfo=UTC)
APPENDED = datetime(2026, 3, 1, tzinfo=UTC)
_TOPICS = Topics()
#: What reasons say, whatever the field and the value.
_KINDS = (
    "expected no card number",
    "the record has no value",
    "expected a JSON document",
    "nested too deeply",
    "is a required property",
    "Additional properties are not allowed",
    "expected a string that matches",
    "is not of type",
    "is not one of",
    "is not a 'date-time'",
    "than the m",  # of a minimum or a maximum
    "expected at most 5 min after the append time",
    "a number that JSON cannot represent, or text that ends in a line break",
)
_TO = Destinations(_TOPICS.scores, _TOPICS.predicted, _TOPICS.dead_letters)


@dataclass
class Findings:
    """What came of some records; `wrong` should be empty.

    Attributes
    ----------
    records
        How many there were.
    of
        By mutation: how many of its records were ``valid``, ``copies`` of such, and ``rejected``.
    reasons
        How often records were rejected, by the beginning of the reason.
    compared
        How many were also judged one by one.
    wrong
        What must not be, with the record's seed, part and place.
    """

    records: int = 0
    of: dict[str, Counter[str]] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: "Findings") -> None:
        """Take in what came of other records."""
        self.records += other.records
        for name, counts in other.of.items():
            self.of.setdefault(name, Counter()).update(counts)
        self.reasons.update(other.reasons)
        self.compared += other.compared
        self.wrong += other.wrong

    def count(self, fate: str) -> int:
        """Return how many records had a fate, over all mutations."""
        return sum(counts[fate] for counts in self.of.values())


def run_part(seed: int, part: int, records: int, sample: float) -> Findings:
    """Mutate records and see what the stream makes of them.

    Parameters
    ----------
    seed, part
        Equal ones give equal records.
    records
        How many.
    sample
        The share of them that is also judged one by one.
    """
    draw = Random(f"{seed}/{part}")
    found = Findings()
    labels = records // 3
    for topic, count in ((_TOPICS.transactions, records - labels), (_TOPICS.labels, labels)):
        originals = _originals(topic)
        drawn = [mutated(draw.choice(originals), draw) for _ in range(count)]
        values, names = [value for value, _ in drawn], [name for _, name in drawn]
        with tempfile.TemporaryDirectory(prefix="fraudstream-") as folder:
            handed = _first_step(topic, values, Path(folder))
        judge = _Judge(topic, values, handed, f"seed {seed}, part {part}, {topic}")
        for row, name in enumerate(names):
            found.of.setdefault(name, Counter())[judge.fate(row)] += 1
            if draw.random() < sample:
                judge.compare(row)
                found.compared += 1
        judge.count_up()
        judge.read_letters()
        found.reasons.update(judge.reasons())
        found.wrong += judge.wrong
        found.records += count
    return found


def judged_alone(value: bytes | None, schema: str) -> dict[str, Any] | None:
    """Return what a record says, its times in microseconds; ``None`` if it is not valid.

    By the published schema as ``jsonschema`` reads it, one record at a time.
    """
    document = _document(value)
    try:
        if not _published(schema).is_valid(document) or holds_card_number(document):
            return None
    except RecursionError:
        # What it would say of a document that is nested so deeply is nested as deeply.
        return None
    latest = APPENDED + CLOCK_TOLERANCE
    for name in ("event_time", "labelled_at"):
        if name in document:
            moment = datetime.fromisoformat(document.pop(name))
            if moment > latest:
                return None
            document[f"{name}_us"] = to_us(moment)
    return document


class _Judge:
    """Tells of each record what became of it, and notes what must not be."""

    def __init__(
        self, topic: str, values: Sequence[bytes | None], handed: pa.Table, where: str
    ) -> None:
        self.wrong: list[str] = []
        self._schema = LABEL if topic == _TOPICS.labels else TRANSACTION
        self._values = values
        self._where = where
        self._rejected = of_kind(handed, REJECTED)
        self._rows = handed.to_pylist()
        self._by_row = {row["offset"]: row for row in self._rows}
        self._names = {
            (row["card_id"], row["transaction_id"]) for row in self._rows if row["kind"] != REJECTED
        }

    def fate(self, row: int) -> str:
        handed = self._by_row.get(row)
        if handed is None:
            return "copies"
        return "rejected" if handed["kind"] == REJECTED else "valid"

    def reasons(self) -> Iterator[str]:
        return (_kind_of(row["reason"]) for row in self._rows if row["kind"] == REJECTED)

    def count_up(self) -> None:
        """See that each record is there once, but for copies of another."""
        if len(self._by_row) != len(self._rows):
            self._note("handed on twice", len(self._rows) - len(self._by_row))
        for row in set(range(len(self._values))) - self._by_row.keys():
            document = _document(self._values[row])
            name = document and (document.get("card_id"), document.get("transaction_id"))
            if self._schema == LABEL or name not in self._names:
                self._note("lost", row)

    def read_letters(self) -> None:
        """See that what is rejected makes a dead letter with a reason and no card number."""
        for text in dead_letters(self._rejected, _TO)["value"].to_pylist():
            letter = orjson.loads(text)
            reason = letter["reason"]
            if (problem := validator(DEAD_LETTER).explain(letter)) is not None:
                self._note(f"no dead letter: {problem}", letter["offset"])
            if not reason.strip() or "\n" in reason or holds_card_number(reason):
                self._note("no good reason", letter["offset"])
        for row in self._rejected.select(["original", "offset"]).to_pylist():
            if row["original"] is not None and masked(row["original"]) != row["original"]:
                self._note("a card number in a dead letter", row["offset"])

    def compare(self, row: int) -> None:
        """Hold what became of a record against what it is by the published schema alone."""
        expected = judged_alone(self._values[row], self._schema)
        handed = self._by_row.get(row)
        is_valid = handed is None or handed["kind"] != REJECTED
        if is_valid != (expected is not None):
            self._note("judged otherwise alone", row)
        elif expected is not None and handed is not None:
            told = {name: handed[name] for name in expected.keys() & handed.keys()}
            if self._schema == LABEL:
                expected["event_time_us"] = expected["labelled_at_us"]
                told["event_time_us"] = handed["event_time_us"]
            if any(told[name] != expected[name] for name in told):
                self._note("read otherwise alone", row)

    def _note(self, what: str, row: int) -> None:
        self.wrong.append(f"{what}: {self._where}, record {row}: {self._values[row]!r:.300}")


def _first_step(topic: str, values: Sequence[bytes | None], folder: Path) -> pa.Table:
    state = EmbeddedState(folder / "state")
    state.create(-1)
    settings = Settings(Cluster("none:1"), _TOPICS, folder, DEFAULT, len(values), 0.0, state)
    appended_ms = to_us(APPENDED) // 1000
    batches = [
        pa.record_batch(
            {
                "topic": pa.array([topic] * len(some), pa.string()),
                "partition": pa.array([0] * len(some), pa.int32()),
                "offset": pa.array(range(start, start + len(some)), pa.int64()),
                "appended_ms": pa.array([appended_ms] * len(some), pa.int64()),
                "value": pa.array(some, pa.binary()),
            }
        )
        for start in range(0, len(values), _AT_ONCE)
        for some in [values[start : start + _AT_ONCE]]
    ]
    try:
        return pa.Table.from_batches(first_task(settings, 0, Untold())(batches), HANDED_ON)
    finally:
        close_all()


@cache
def _originals(topic: str) -> list[bytes]:
    simulation = Simulation(WorldSpec(cards=2_000), _START)
    days = [simulation.day(day) for day in range(3)]
    if topic == _TOPICS.labels:
        return [orjson.dumps(label) for day in days for label in day.labels()]
    return [orjson.dumps(transaction) for day in days for transaction in day.transactions()]


@cache
def _published(schema: str) -> jsonschema.Draft202012Validator:
    # Python's $ matches before a last line break, too; that of JSON Schema does not.
    text = orjson.dumps(load_schema(schema)).replace(b"$)", b"\\\\Z)").replace(b'$"', b'\\\\Z"')
    return jsonschema.Draft202012Validator(
        orjson.loads(text), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )


def _document(value: bytes | None) -> Any:
    try:
        return orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None


def _kind_of(reason: str) -> str:
    """Return the part of a reason that does not depend on the record."""
    return next((kind for kind in _KINDS if kind in reason), "other")
