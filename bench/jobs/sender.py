"""Enqueue jobs with one library, in a process of its own: ``python sender.py MODULE``.

MODULE has a function ``enqueue(payload, due)``. Each line of the input is a command. The reply is a line with numbers:

- ``enqueue COUNT SEED`` enqueues jobs one after another, as fast as possible. It replies the seconds this took.
- ``offer RATE COUNT SEED`` enqueues jobs at random times, RATE a second on average, like independent visitors. Several
  threads send them, so that a slow call does not delay the others, and latency counts from the drawn time. It replies
  the seconds from the first of these times to the last.

Only that library is installed in its environment, so it imports no other module of bench/.
"""

import concurrent.futures
import importlib
import random
import sys
import time

_THREADS = 8
_PAYLOAD = 1024


def enqueue(module, count, seed):
    payload = payload_of(random.Random(seed))  # noqa: S311 (a payload is no secret)
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        module.enqueue(payload, time.time())
    return time.perf_counter() - began, time.process_time() - cpu


def offer(module, rate, count, seed):
    chance = random.Random(seed)  # noqa: S311 (payloads and times are no secrets)
    payload = payload_of(chance)
    dues = [time.time() + 0.1]
    while len(dues) < count:
        dues.append(dues[-1] + chance.expovariate(rate))

    def send(due):
        time.sleep(max(0.0, due - time.time()))
        module.enqueue(payload, due)

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as threads:
        list(threads.map(send, dues))
    return (dues[-1] - dues[0],)


def payload_of(chance):
    return chance.randbytes(_PAYLOAD // 2).hex()


def main():
    module = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        command, *numbers = line.split()
        seconds = {"enqueue": enqueue, "offer": offer}[command](module, *map(int, numbers))
        print(*seconds, flush=True)


if __name__ == "__main__":
    main()
