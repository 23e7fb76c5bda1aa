"""The job with RQ."""

import os

import job
from redis import Redis
from rq import Queue

queue = Queue(connection=Redis.from_url(os.environ["BENCH_BROKER"]))


def enqueue(payload, due):
    queue.enqueue(job.run, payload, due, result_ttl=0)
