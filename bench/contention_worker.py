"""Increments a counter in transactions, one of several processes: ``python -m bench.contention_worker ADDRESS``.

Each line of the input is a count and the name of a counter, answered with how many transactions were aborted, and begun
again at once, until so many had committed.
"""

import sys
import time

import grpc

from bench.datastore import Stub, increment

_PATIENCE = 30.0
"""Seconds for everything that one line asks for. Where transactions wait for each other's locks, it takes for ever."""


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
    """Try once, and tell whether the transaction was committed and not aborted."""
    try:
        increment(stub, name, timeout=max(0.0, deadline - time.monotonic()))
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.ABORTED:
            return False
        sys.exit(f"not done in {_PATIENCE:.0f} s: {error.code().name} {error.details()}")
    return True


if __name__ == "__main__":
    main()
