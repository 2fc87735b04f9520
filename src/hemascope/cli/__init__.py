"""The command line: a function for each command, thin over the Python API."""

from __future__ import annotations

import errno
import signal
import sys
from typing import Annotated, NoReturn

import typer

from hemascope.cli.auditing import audit
from hemascope.cli.exporting import export
from hemascope.cli.making import doctor, download, recipes, sample
from hemascope.cli.scoring import evaluate, predict
from hemascope.cli.serving import review, serve
from hemascope.cli.training import train
from hemascope.errors import InputError
from hemascope.stopping import StoppedError, raising_on_signals, tell, terminal_is_closed
from hemascope.version import __version__

app = typer.Typer(
    help="Audit, train, stress and trust classifiers of single blood cells. Research only, not a medical device.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (train, evaluate, audit, review, predict, export, serve, sample, download, recipes, doctor):
    app.command()(command)


def main() -> None:
    """Run the command line; bad input ends it with one sentence and exit status 2, a signal with 128 and its number."""
    try:
        with raising_on_signals():
            app()
    except InputError as error:
        print(f"hemascope: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except MemoryError:
        print("hemascope: memory does not suffice; close other programs, or give it fewer pictures.", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        if error.errno == errno.EIO and terminal_is_closed():
            _stop(StoppedError(signal.SIGHUP))
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"hemascope: {where}there is no room left on the disk; make some and try again.", file=sys.stderr)
        raise SystemExit(2) from None
    except StoppedError as stopped:
        _stop(stopped)


def _stop(stopped: StoppedError) -> NoReturn:
    tell(f"hemascope: {stopped}")
    raise SystemExit(stopped.exit_status) from None


def _version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it.")] = False,
) -> None:
    """Options that stand before a command."""
