"""The command line explains itself, and refuses what it could not do."""

from pathlib import Path

from click.testing import CliRunner
from click.testing import Result
import pytest

from fraudstream.kafka import topics
from fraudstream.kafka.acls import BadPrincipal
from fraudstream.kafka.topics import BrokerUnreachable
from fraudstream.producer.agenda import FullSpeed
from fraudstream.producer.agenda import Scaled
from fraudstream.producer.main import FutureTime
from fraudstream.producer.main import _Speed
from fraudstream.producer.main import producer

_NOBODY = "--bootstrap-servers=127.0.0.1:1"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(producer, arguments)


@pytest.fixture
def recording(tmp_path: Path) -> str:
    file = tmp_path / "payments.csv"
    file.write_text("transaction_id,event_time,card_id,merchant_id,amount\nt1,2020-01-01,c,m,1\n")
    return str(file)


@pytest.mark.parametrize("command", ["topics", "simulate", "replay"])
def test_help_names_the_variable_of_every_option(command: str) -> None:
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "FRAUDSTREAM_BOOTSTRAP_SERVERS" in result.output
    options = [line for line in result.output.splitlines() if line.startswith("  --")]
    # Only --debug and --help are about the call itself.
    assert result.output.count("FRAUDSTREAM_") == len(options) - 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate=5"], "--rate is for --live"),
        (["--seconds=5"], "--seconds is for --live"),
        (["--events=5"], "--events is for --live"),
        (["--after-days=5"], "--after-days is for --live"),
        (["--live", "--start=2026-01-01", "--days=5"], "--days is for a history"),
        (["--live", "--start=2026-01-01", "--end=2026-01-01"], "--end is for a history"),
        (["--live"], "--live needs --start"),
        (["--start=2026-01-01", "--end=2026-01-31"], "give --start or --end, not both"),
        (["--start=yesterday"], "expected a time such as"),
        (["--duplicates=2"], "--duplicates"),
    ],
)
def test_a_simulation_that_contradicts_itself_is_refused(arguments: list[str], said: str) -> None:
    result = invoke("simulate", *arguments)
    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--start=2090-01-01"], "the history would end at 2090-01-31T00:00:00"),
        (["--end=2090-01-01T00:00:00+01:00"], "the history would end at 2090-01-01T00:00:00"),
        (["--live", "--start=2090-01-01"], "the live traffic would begin at 2090-01-01T00:00:00"),
    ],
)
def test_the_future_is_not_simulated(arguments: list[str], said: str) -> None:
    result = invoke("simulate", *arguments)
    assert isinstance(result.exception, FutureTime)
    assert said in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--map=card"], "expected FIELD=COLUMN, got 'card'"),
        (["--set=currency="], "expected FIELD=VALUE, got 'currency='"),
        (["--speed=fast"], "expected full, real, or a factor such as 60x, got 'fast'"),
        (["--speed=0x"], "expected full, real, or a factor"),
        (["--speed=infx"], "expected full, real, or a factor"),
        (["--speed=nan"], "expected full, real, or a factor"),
        (["--label-delay=week"], "--label-delay"),
    ],
)
def test_a_replay_that_makes_no_sense_is_refused(
    recording: str, arguments: list[str], said: str
) -> None:
    result = invoke("replay", recording, *arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_a_file_that_is_not_there_is_named() -> None:
    result = invoke("replay", "nowhere.csv")
    assert result.exit_code == 2
    assert "nowhere.csv" in result.output


@pytest.mark.parametrize(("text", "kind"), [("full", FullSpeed), ("real", Scaled), ("6x", Scaled)])
def test_speeds_have_names_and_factors(text: str, kind: type) -> None:
    assert isinstance(_Speed().convert(text, None, None), kind)


@pytest.mark.parametrize("arguments", [["topics"], ["simulate", "--days=1"], ["replay"]])
def test_without_a_broker_every_command_says_so(
    arguments: list[str], recording: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "_TIMEOUT_S", 0.2)
    file = [recording] if arguments == ["replay"] else []
    result = invoke(*arguments, *file, _NOBODY)
    assert isinstance(result.exception, BrokerUnreachable)
    assert "no Kafka broker answers at 127.0.0.1:1" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--principal=trainer=User:a"], "--principal is for --acls"),
        (["--acls", "--principal=trainer"], "expected ROLE=PRINCIPAL, got 'trainer'"),
    ],
)
def test_a_principal_that_grants_nothing_is_refused(arguments: list[str], said: str) -> None:
    result = invoke("topics", _NOBODY, *arguments)
    assert result.exit_code == 2
    assert said in result.output


def test_a_principal_of_no_role_is_refused_before_anything_is_created() -> None:
    result = invoke("topics", _NOBODY, "--acls", "--principal=treasurer=User:a")
    assert isinstance(result.exception, BadPrincipal)
