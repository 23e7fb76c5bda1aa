"""`python -m deploy`."""

from deploy.cli import cli, main
from deploy.rehearse import rehearse

cli.add_command(rehearse)
main()
