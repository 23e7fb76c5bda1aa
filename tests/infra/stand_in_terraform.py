#!/usr/bin/env python3
"""A stand-in for Terraform that records its calls, and fails or waits if its orders say so."""

import json
import os
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    folder = Path(os.environ["STAND_IN"])
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("-chdir=")]
    orders = json.loads((folder / "orders.json").read_text())
    if arguments[0] == "version":
        print(json.dumps({"terraform_version": orders.get("version", "1.11.4")}))
        return 0
    with (folder / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps({"arguments": arguments, "workspace": os.environ.get("TF_WORKSPACE")}) + "\n")
    if arguments[0] == orders.get("fails"):
        print(f"Error: {arguments[0]} was told to fail", file=sys.stderr)
        return 7
    if arguments[0] == "output":
        print(json.dumps({name: {"value": value} for name, value in orders.get("outputs", {}).items()}))
    if arguments[0] == orders.get("waits"):
        return wait_for_interrupt(folder)
    return 0


def wait_for_interrupt(folder: Path) -> int:
    """Run until Ctrl-C and a little longer, as Terraform does to save its state."""
    interrupted = []
    signal.signal(signal.SIGINT, lambda *_: interrupted.append(True))
    (folder / "waiting").touch()
    while not interrupted:
        time.sleep(0.01)
    time.sleep(0.6)  # longer than subprocess.run waits for a child after Ctrl-C
    (folder / "state-written").touch()
    return 1


if __name__ == "__main__":
    sys.exit(main())
