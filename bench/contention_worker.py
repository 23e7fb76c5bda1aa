"""One of several workers that increment a counter in transactions: ``python -m bench.contention_worker ADDRESS``.

Each line of its input holds a count and the name of a counter. The worker commits that many increments, retries aborted
transactions at once, and prints how many were aborted.
"""

import sys
import time

import grpc

from bench.datastore import Stub, increment

_PATIENCE = 30.0
"""Seconds for all increments of one line. An emulator whose transactions wait for each other's locks needs for ever."""


def main() -> None:
    stub = Stub(sys.argv[1])
    for line in sys.stdin:
        count, name = line.split()
        deadline = time.monotonic() + _PATIENCE
        print(sum(_aborted_until_committed(stub, name, deadline) for _ in range(int(count))), flush=True)


def _aborted_until_committed(stub: Stub, name: str, deadline: float) -> int:
    aborted = 0
    while not _commits(stub, name, deadline):
        aborted += 1
    return aborted


def _commits(stub: Stub, name: str, deadline: float) -> bool:
    """Try once; return whether the transaction committed. False: it was aborted."""
    try:
        increment(stub, name, timeout=max(0.0, deadline - time.monotonic()))
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.ABORTED:
            return False
        sys.exit(f"not done in {_PATIENCE:.0f} s: {error.code().name} {error.details()}")
    return True


if __name__ == "__main__":
    main()
