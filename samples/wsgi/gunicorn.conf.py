"""Settings of gunicorn, which reads this file by itself; those in the entrypoint of app.yaml go before these."""

import gc

# App Engine starts an instance when somebody is waiting for it. Python looks for garbage each time some hundreds of
# objects have been made, and next to none of what a start makes becomes garbage. Looking less often makes a start a
# little shorter.
gc.set_threshold(50_000)
