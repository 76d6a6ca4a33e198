"""`python -m trainers generator|critic|...`: `refiner train`, for launchers that start a module."""

from __future__ import annotations

import sys

from refiner_env.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
