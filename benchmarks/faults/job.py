"""The inference app as it ships, with named points at which its driver can be caught.

Told so by ``SIGUSR1``, it says on stderr what each of its threads is at.
"""

import faulthandler
import signal

from faults.points import install_in_driver

from fraudstream.cli.console import run
from fraudstream.inference.main import inference

if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)
    install_in_driver()
    run(inference)
