"""Who takes part, and what each needs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A contender.

    Attributes
    ----------
    module
        Of `stream.contenders`; its function ``run`` works off a `stream.plan.Plan`.
    peer
        The library that it shows, by the name of its file in ``requirements``; it runs in an
        environment of its own. Empty for what runs in ours.
    jars
        What it needs from Maven, as ``organisation:module:version``.
    share
        How much of the events it is given: a slow one would take hours over all of them.
    runs_ahead
        See `stream.measuring.drained`.
    """

    module: str
    peer: str = ""
    jars: tuple[str, ...] = ()
    share: float = 1.0
    runs_ahead: bool = False


OURS = "fraudstream"

CONTENDERS = {
    OURS: Entry("ours"),
    "passthrough": Entry("passthrough"),
    "first_written": Entry("first_written", share=0.005),
    "bare_loop": Entry("bare_loop"),
    "quixstreams": Entry("quix", "quixstreams", share=0.002),
    "bytewax": Entry("bytewax_flow", "bytewax", runs_ahead=True),
    "pyflink": Entry(
        "flink",
        "pyflink",
        ("org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2",),
        share=0.002,
        runs_ahead=True,
    ),
    "pathway": Entry("pathway_flow", "pathway", share=0.05),
}
