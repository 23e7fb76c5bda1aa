"""The job with Celery."""

import os

import job
from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_BROKER"])
app.conf.broker_connection_retry_on_startup = True


@app.task(ignore_result=True)
def run(payload, due):
    job.run(payload, due)


def enqueue(payload, due):
    run.delay(payload, due)
