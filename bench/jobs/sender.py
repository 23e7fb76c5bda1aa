"""Enqueues jobs with one library, in a process of its own: ``python sender.py MODULE``.

MODULE has a function ``enqueue(payload, due)``. Each line of the input is a command, answered with a line:

- ``enqueue COUNT SEED``: one after another, as fast as it goes. Answers the seconds that it took.
- ``offer RATE COUNT SEED``: at times drawn beforehand, so many a second on average, as independent visitors come. An
  answer that takes long holds up none of the others as long as a thread is free, and a job counts as late from the time
  it should have been sent. Answers the seconds from the first of these times to the last.

It runs where only that library is installed, so it imports nothing of the benchmark.
"""

import concurrent.futures
import importlib
import random
import sys
import time

_THREADS = 8
_PAYLOAD = 1024


def enqueue(module, count, seed):
    payload = payload_of(random.Random(seed))  # noqa: S311
    began = time.perf_counter()
    for _ in range(count):
        module.enqueue(payload, time.time())
    return time.perf_counter() - began


def offer(module, rate, count, seed):
    chance = random.Random(seed)  # noqa: S311 (nothing here is secret)
    payload = payload_of(chance)
    dues = [time.time() + 0.1]
    while len(dues) < count:
        dues.append(dues[-1] + chance.expovariate(rate))

    def send(due):
        time.sleep(max(0.0, due - time.time()))
        module.enqueue(payload, due)

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(send, dues))
    return dues[-1] - dues[0]


def payload_of(chance):
    return chance.randbytes(_PAYLOAD // 2).hex()


def main():
    module = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        command, *numbers = line.split()
        seconds = {"enqueue": enqueue, "offer": offer}[command](module, *map(int, numbers))
        print(seconds, flush=True)


if __name__ == "__main__":
    main()
