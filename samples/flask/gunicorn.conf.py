"""Settings of gunicorn, which finds this file by its name. Options in the entrypoint of app.yaml override them."""

import gc

# App Engine starts an instance while a visitor waits. Python often looks for garbage meanwhile, but almost nothing that
# a start creates is garbage. Looking less often makes the start a little shorter.
gc.set_threshold(50_000)
