"""Explores the migrations: a part, in about three minutes; `--whole`, within two hours; `--only` one scenario."""

import argparse
import sys

from proof.exploration.migrations import explore_all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    sys.exit(not explore_all(whole=options.whole, only=options.only, seconds=7200 if options.whole else float("inf")))


if __name__ == "__main__":
    main()
