"""`gatepost run`: starts the server and serves until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import sys
import time

import rich_click as click

from gatepost.app.cli.frame import USUAL_FILES, Frame, pass_frame
from gatepost.app.cli.outcome import Exit


@click.command("run")
@click.option("--plugin", "plugins", multiple=True, help="A further plugin: a file, or package.module:attribute.")
@click.option("--watch", is_flag=True, help="Reload when the settings or a plugin's file changes.")
@pass_frame
def command(frame: Frame, *, plugins: tuple[str, ...], watch: bool) -> int:
    """Run the server.

    Without settings it listens on 127.0.0.1:2525 and accepts every recipient into Maildirs in ./gatepost-data. SIGTERM
    finishes transactions, then stops; SIGHUP reloads.
    """
    began = time.time()
    from gatepost.app.listening import Sockets
    from gatepost.app.logs import configure
    from gatepost.app.running import House, Single, loop_factory, run
    from gatepost.app.settings import SettingsError
    from gatepost.app.starting import Launch, StartFailure
    from gatepost.app.supervisor import Supervisor
    from gatepost.plugins.host.launched import Launcher

    named = frame.config if frame.config is not None and frame.config not in USUAL_FILES else None
    launch = Launch(frame.file, plugins, frame.verbosity, named)
    try:
        settings = launch.settings()
    except SettingsError as error:
        click.echo(str(error), err=True)
        return Exit.CONFIGURATION
    configure(settings.log, verbosity=frame.verbosity)
    os.umask(0o077)  # mail is nobody else's business: whatever makes a file that doesn't say whose it is
    workers = _workers(settings.workers) if settings.data is not None else 1

    def make(sockets: Sockets, launcher: Launcher | None) -> House:
        if workers == 1:
            return Single(launch, settings, sockets, launcher)
        return Supervisor(launch, settings, sockets, workers, launcher)

    try:
        with asyncio.Runner(loop_factory=loop_factory() if workers == 1 else None) as runner:
            return runner.run(run(launch, settings, make, workers=workers, watch=watch, began=began))
    except StartFailure as error:
        click.echo(f"gatepost: {error}", err=True)
        if error.mend:
            click.echo(f"  mend:  {error.mend}", err=True)
        click.echo(f"Nothing was started. (exit {error.code})", err=True)
        return error.code


def _workers(wanted: int | str) -> int:
    """auto: one for each processor that we may use."""
    if isinstance(wanted, int):
        return wanted
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
