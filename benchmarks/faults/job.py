"""The inference app as it ships, with named points at which its driver can be caught."""

from faults.points import install_in_driver

from fraudstream.cli.console import run
from fraudstream.inference.main import inference

if __name__ == "__main__":
    install_in_driver()
    run(inference)
