"""`python -m deploy`."""

from deploy.cli import cli, main
from deploy.rehearsal.command import rehearse

cli.add_command(rehearse)
main()
