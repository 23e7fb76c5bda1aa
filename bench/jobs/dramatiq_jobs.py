"""The job with Dramatiq."""

import os

import dramatiq
import job
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_BROKER"]))


@dramatiq.actor
def run(payload, due):
    job.run(payload, due)


def enqueue(payload, due):
    run.send(payload, due)
