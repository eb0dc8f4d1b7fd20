"""Commands for the versions of a model: which serves, which scores in shadow, which there are."""

from dataclasses import asdict
import json
from pathlib import Path
import tempfile
from typing import TYPE_CHECKING
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from fraudstream.cli.console import debug_option
from fraudstream.cli.tracking import tracking_options
from fraudstream.features.sets import DEFAULT

# Imported by the commands that use it: `main` sets the environment that MLflow reads when imported.
if TYPE_CHECKING:
    from fraudstream.trainer.registry import Registry
    from fraudstream.trainer.registry import Version


def figure(value: float | None) -> str:
    """Return a figure as people read it.

    >>> figure(1234.5), figure(0.98765), figure(None)
    ('1,234.5', '0.9877', '-')
    """
    return "-" if value is None else f"{value:,.4f}".rstrip("0").rstrip(".")


@click.command()
@tracking_options
@click.option("--version", metavar="N", help="The version that shall serve.")
@click.option("--previous", is_flag=True, help="The one that served before the present champion.")
@debug_option
def promote(
    tracking_uri: str, model_name: str, version: str | None, previous: bool, debug: bool
) -> None:
    """Make a version the champion, by hand: forward, or back to an earlier one.

    The bundle is checked first: one that the stream would refuse is refused here. The stream
    goes over to it within seconds.

    \b
    Examples:
      trainer.pex promote --version 3
      trainer.pex promote --previous
    """
    from fraudstream.trainer.registry import Registry
    from fraudstream.trainer.registry import UnknownVersion

    if previous == (version is not None):
        raise click.UsageError("expected either --version N or --previous")
    registry = Registry(tracking_uri, model_name)
    before = registry.champion()
    if version is None:
        if before is None:
            raise UnknownVersion(f"{model_name} has no champion: name a version with --version")
        version = registry.replaced(before)
    _check(registry, version)
    registry.promote(version, f"by hand, after {f'version {before}' if before else 'none'}")
    click.echo(f"version {version} of {model_name} is the champion", err=True)


@click.command()
@tracking_options
@click.option("--version", metavar="N", help="The version that shall score in shadow.")
@click.option("--end", is_flag=True, help="Let none score in shadow any more.")
@debug_option
def shadow(tracking_uri: str, model_name: str, version: str | None, end: bool, debug: bool) -> None:
    """Let a version score live traffic in the champion's shadow, as challenger; or end that.

    Its scores go to the topic of scores with the role "challenger". No alert comes of them. The
    bundle is checked first, as by `promote`; the stream follows within seconds.

    \b
    Examples:
      trainer.pex shadow --version 4
      trainer.pex evaluate                    # how it does beside the champion
      trainer.pex promote --version 4         # or, if it does no better:
      trainer.pex shadow --end
    """
    from fraudstream.trainer.registry import Registry
    from fraudstream.trainer.registry import UnknownVersion

    if end == (version is not None):
        raise click.UsageError("expected either --version N or --end")
    registry = Registry(tracking_uri, model_name)
    if version is None:
        before = registry.challenger()
        if before is None:
            raise UnknownVersion(f"{model_name} has no challenger, so there is none to end")
        registry.end_shadow()
        click.echo(f"version {before} of {model_name} is no challenger any more", err=True)
        return
    if version == registry.champion():
        raise click.UsageError(
            f"expected another version than the champion, got {version}: it scores all already"
        )
    _check(registry, version)
    registry.shadow(version)
    click.echo(f"version {version} of {model_name} is the challenger", err=True)


@click.command()
@tracking_options
@click.option("--json", "as_json", is_flag=True, help="Print the versions as JSON.")
@debug_option
def models(tracking_uri: str, model_name: str, as_json: bool, debug: bool) -> None:
    """Show the versions of the model, the newest first: which is champion, and which challenger."""
    from fraudstream.trainer.registry import Registry
    from fraudstream.trainer.registry import UnknownVersion

    versions = Registry(tracking_uri, model_name).versions()
    if as_json:
        click.echo(json.dumps([_document(version) for version in versions], indent=2))
        return
    if not versions:
        raise UnknownVersion(
            f"{tracking_uri} has no version of {model_name}: train one with `trainer.pex train`"
        )
    table = Table("version", "average precision", "threshold", "registered, UTC", "decision")
    for version in versions:
        table.add_row(
            f"{version.number}, {version.role}" if version.role else version.number,
            figure(version.average_precision),
            figure(version.threshold),
            f"{version.created:%Y-%m-%d %H:%M}",
            version.decision,
        )
    Console().print(table)


def _check(registry: "Registry", version: str) -> None:
    """Refuse a version that the stream would refuse."""
    from fraudstream.model.bundle import load_bundle

    with tempfile.TemporaryDirectory(prefix="fraudstream-") as folder:
        load_bundle(registry.fetch(version, Path(folder)), DEFAULT, version)


def _document(version: "Version") -> dict[str, Any]:
    return {**asdict(version), "created": version.created.isoformat()}
