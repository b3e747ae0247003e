"""Explores the migrations and the rotation: a part, in about three minutes; `--whole`, within two hours."""

import argparse
import sys
import time
from typing import Final

from proof.exploration import migrations, rotations

HEAD: Final = "| explored | known | left out as equal, with all that follow | run | seconds |\n|---|--:|---|--:|--:|"


def explore_all(*, whole: bool, only: str, fewest: int) -> bool:
    """Explore, or one scenario only; print a line for each exploration, and return whether all held."""
    until = time.monotonic() + 7200 if whole else float("inf")
    held = True
    print(HEAD)
    for module, start in ((migrations, migrations.migrations), (rotations, rotations.rotations)):
        known = module.explorations(whole=whole or bool(only))
        chosen = [each for each in known if only in ("", each[1].name) and each[2] >= fewest]
        if not chosen:
            continue
        with start() as server:
            for name, scenario, runs, bounds in chosen:
                done = server.explore(scenario, runs, until=until, **bounds)
                left = ", ".join(f"{count}: {rule}" for rule, count in sorted(done.left_out.items()))
                possible = done.run + done.left_out.total() + done.not_run
                drawn = f" of {done.run + done.not_run} known" if done.not_run else ""
                print(f"| {name} | {possible} | {left} | {done.run}{drawn} | {done.seconds:.1f} |", flush=True)
                for fault in done.faults:
                    print(fault, flush=True)
                held = held and not done.faults
                if time.monotonic() > until:
                    print("The time was up before all was explored.", flush=True)
                    held = held and not whole
    return held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--only", default="", help="the name of one scenario")
    parser.add_argument("--fewest", type=int, default=1, help="leave out fewer runs at once")
    options = parser.parse_args()
    sys.exit(not explore_all(whole=options.whole, only=options.only, fewest=options.fewest))


if __name__ == "__main__":
    main()
