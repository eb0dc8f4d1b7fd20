"""Start one contender: `python -m stream.contenders.start MODULE PLAN`.

A program of its own, so that it runs as well in an environment that has no library of ours.
"""

import importlib
import sys

from stream.plan import Plan

if __name__ == "__main__":
    importlib.import_module(f"stream.contenders.{sys.argv[1]}").run(Plan.from_json(sys.argv[2]))
