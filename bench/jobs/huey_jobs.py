"""The job with Huey: on Redis, or on SQLite if the broker is a file."""

import os

import job
from huey import RedisHuey, SqliteHuey

_BROKER = os.environ["BENCH_BROKER"]

huey = RedisHuey("bench", url=_BROKER) if _BROKER.startswith("redis:") else SqliteHuey("bench", filename=_BROKER)


@huey.task()
def run(payload, due):
    job.run(payload, due)


def enqueue(payload, due):
    run(payload, due)
