"""What executors say of themselves is read, and decides whether the stream may use them."""

from dataclasses import replace
from pathlib import Path
import socket
import sys

import orjson
import pytest

from fraudstream.inference.embedded import StateElsewhere
from fraudstream.inference.executors import Answer
from fraudstream.inference.executors import Driver
from fraudstream.inference.executors import UnfitExecutors
from fraudstream.inference.executors import facts
from fraudstream.inference.executors import refuse_elsewhere
from fraudstream.inference.executors import refuse_unfit

DRIVER = Driver("3.11", "17", "home", "boot-1")
FACTS = {
    "python": "3.11",
    "has_fraudstream": True,
    "host": "home",
    "boot": "boot-1",
    "can_write": True,
}
PEX = "./inference.pex"
CHECKPOINT = Path("/srv/checkpoint")


def fit(**changed: object) -> Answer:
    told = {**FACTS, **changed}
    return Answer(str(told["host"]), 7, "17", 0, orjson.dumps(told).decode())


def test_executors_like_the_driver_are_taken():
    refuse_unfit(DRIVER, [fit(), fit()], PEX)
    refuse_elsewhere(DRIVER, [fit(), fit()], CHECKPOINT)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (fit(python="3.12"), "home has Python 3.12"),
        (replace(fit(), java="21"), "home has Java 21"),
        (
            Answer("w1", 7, "17", 127, "env: 'python3.11': No such file or directory"),
            "w1 cannot run ./inference.pex (exit code 127): env: 'python3.11': No such file or "
            "directory",
        ),
        (
            fit(has_fraudstream=False),
            "on home, ./inference.pex has no fraudstream in it (without PYSPARK_PYTHON, the PEX "
            "that runs here is sent)",
        ),
    ],
)
def test_an_executor_that_differs_is_refused_and_the_message_says_how(answer, problem):
    with pytest.raises(UnfitExecutors) as refusal:
        refuse_unfit(DRIVER, [fit(), answer], PEX)
    assert str(refusal.value) == (
        f"expected Python 3.11 and Java 17 on every machine, as the driver has them: {problem}"
    )


def test_all_that_is_wrong_with_an_executor_is_told_at_once():
    with pytest.raises(UnfitExecutors, match=r"home has Java 21; home has Python 3\.9$"):
        refuse_unfit(DRIVER, [replace(fit(python="3.9"), java="21")], PEX)


def test_of_many_executors_three_are_named():
    answers = [fit(python="3.12", host=f"w{number}") for number in range(9)]
    with pytest.raises(UnfitExecutors, match=r"w0 has .*; w1 has .*; w2 has .*; and 6 more$"):
        refuse_unfit(DRIVER, answers, PEX)


@pytest.mark.parametrize("changed", [{"host": "afar"}, {"boot": "boot-2"}])
def test_an_executor_of_another_machine_cannot_reach_embedded_state(changed):
    host = {**FACTS, **changed}["host"]
    with pytest.raises(StateElsewhere, match=f"executors on {host}: use workers on home only"):
        refuse_elsewhere(DRIVER, [fit(), fit(**changed)], CHECKPOINT)


def test_an_executor_that_may_not_write_to_the_checkpoint_is_told():
    with pytest.raises(StateElsewhere, match="executors on home may not write to /srv/checkpoint"):
        refuse_elsewhere(DRIVER, [fit(can_write=False)], CHECKPOINT)


def test_warnings_of_a_python_do_not_hide_what_it_says():
    told = Answer.parse("home\t7\t[17]\t0\tPEXWarning: {no home} " + orjson.dumps(FACTS).decode())
    assert told.facts() == FACTS


def test_the_facts_are_those_of_the_python_that_runs(tmp_path):
    found = facts(str(tmp_path))
    assert found["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert found["host"] == socket.gethostname()
    assert found["has_fraudstream"]
    assert found["can_write"]
    assert not facts(str(tmp_path / "absent"))["can_write"]
