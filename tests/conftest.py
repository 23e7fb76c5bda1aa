"""Keeps the clients of tests from a proxy on the way to servers on this machine.

The tests of our own clients remove these variables again.
"""

import os

_EXCEPTIONS = "127.0.0.1,localhost"

for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, [os.environ.get(_name), _EXCEPTIONS]))
