"""The options that the benchmark and the search share."""

from pathlib import Path

import click

data_option = click.option(
    "--data",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    envvar="FRAUDSTREAM_HANDBOOK",
    show_envvar=True,
    metavar="FILE",
    help="The Handbook's transactions as one Parquet file.",
)
threads_option = click.option("--threads", type=click.IntRange(1), default=2, show_default=True)
