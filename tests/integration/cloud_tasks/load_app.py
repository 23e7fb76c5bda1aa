"""An app that records finished tasks in a file and fails at random: ``python load_app.py PORT FILE SHARE``.

It writes a task's line before it answers, so each task that the server counts as done is in the file after a kill, too.
"""

import os
import random
import sys

from aiohttp import web


def main(port: int, path: str, share: float) -> None:
    dice = random.Random()  # noqa: S311  # failures, not secrets
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def handle(request: web.Request) -> web.Response:
        await request.read()
        if dice.random() < share:
            return web.Response(status=500)
        os.write(file, f"{request.headers['X-AppEngine-TaskName']}\n".encode())
        return web.Response()

    app = web.Application()
    app.router.add_post("/task", handle)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, reuse_port=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))
