"""Records what Cloud Tasks and Datastore do in a project: `python3 run.py record --help`."""

import asyncio
import datetime
from collections.abc import Mapping
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import Any

import click

from gae_local_cloud.datastore import Concurrency
from tests.recording.recordings import (
    FOLDER,
    MEASUREMENTS,
    PROBES,
    Recording,
    differences,
    facts,
    known_differences,
    read,
)
from tests.recording.target import google, local, prepared


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--project", help="Project whose services are asked, with your credentials.")
@click.option("--location", default="us-central1", show_default=True, help="Location of the App Engine app.")
@click.option("--database", default="", help="Datastore database; by default the project's default one.")
@click.option("--receiver", metavar="URL", help="URL of tests/recording/receiver, deployed. Without it no task runs.")
@click.option("--service", default="recording", show_default=True, help="App Engine service of the receiver.")
@click.option(
    "--concurrency",
    type=click.Choice([mode.value for mode in Concurrency]),
    default=Concurrency.PESSIMISTIC.value,
    show_default=True,
    help="Concurrency mode of the database.",
)
@click.option("--window", type=int, default=0, metavar="MINUTES", help="Wait until a deleted task's name is free.")
@click.option("--emulator", is_flag=True, help="Ask a local cloud instead, and only compare.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=FOLDER, help="Folder for recordings.")
def main(project: str | None, emulator: bool, concurrency: str, out: Path, **options: Any) -> None:
    """Record the headers, stored forms, errors, sizes, indexes and transactions of a project's services.

    Makes three queues, and entities in a namespace of their own, and deletes them. Costs a few cents. Tests hold the
    local cloud to each recording in tests/conformance/recordings.
    """
    if emulator == (project is not None):
        raise click.UsageError("Name a project with --project, or ask a local cloud with --emulator")
    recordings = asyncio.run(record(None if emulator else {"project": project, **options}, concurrency))
    for recording in recordings:
        file = out / f"{recording.service}-{recording.date}.json"
        if emulator and out == FOLDER:
            compare(recording)
        else:
            out.mkdir(parents=True, exist_ok=True)
            file.write_text(recording.text())
            click.echo(f"{file}: {len(recording.facts)} probes")


async def record(options: Mapping[str, Any] | None, concurrency: str) -> list[Recording]:
    """Ask the services of a project, or without options those of a local cloud, and return the recordings."""
    source = "python3 run.py record, " + ("the local cloud" if options is None else "Google's services")
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    async with AsyncExitStack() as stack:
        services = local(concurrency=Concurrency(concurrency)) if options is None else nullcontext(google(**options))
        target = await stack.enter_async_context(prepared(await stack.enter_async_context(services)))
        settings = {"concurrency": concurrency}
        return [
            Recording(
                *(name, today, source, await facts(target, PROBES[name]), settings),
                measurements=await facts(target, MEASUREMENTS[name]),
            )
            for name in PROBES
        ]


def compare(recording: Recording) -> None:
    """Show how the local cloud differs from each recording of a service."""
    known = known_differences(recording.service)
    for file in sorted(FOLDER.glob(f"{recording.service}-*.json")):
        found = differences(read(file).facts, recording.facts)
        click.echo(f"{file.name}: {len(found)} difference{'' if len(found) == 1 else 's'}")
        for name, (recorded, today) in found.items():
            click.echo(f"  {name}: {today!r} instead of {recorded!r} ({known.get(name, 'not known')})")


if __name__ == "__main__":
    main()
