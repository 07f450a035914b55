"""The command line: run a network, measure the collapse of features, draw the paper's figures."""

from typing import Annotated

import infall

_INSTALL_HINT = "infall: the command line needs {}: pip install infall[cli]"
try:
    import typer

    # Libraries that take long to import are imported by the commands that need them.
    from infall.cli import collapse, figure, info, run, select
    from infall.cli._terminal import OneLineErrors, PlainCommand
except ModuleNotFoundError as error:
    raise SystemExit(_INSTALL_HINT.format(error.name)) from None

app = typer.Typer(
    cls=OneLineErrors,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Very wide Gaussian layers: select their rows, stack them, watch the angles collapse; "
    "the metrics of neural collapse; and the figures of the paper.",
)
app.command(cls=PlainCommand, help=collapse.HELP, epilog=collapse.EPILOG)(collapse.collapse)
app.command(cls=PlainCommand, help=figure.HELP, epilog=figure.EPILOG)(figure.figure)


@app.callback(invoke_without_command=True)
def _infall(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", metavar="", help="Print the version.")
    ] = False,
) -> None:
    if version:
        typer.echo(infall.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command(cls=PlainCommand, help=select.MERGE_HELP)(select.merge)
app.command(cls=PlainCommand, help=run.HELP, epilog=run.EPILOG)(run.run)
app.command(cls=PlainCommand, help=select.HELP, epilog=select.EPILOG)(select.select)
app.command(cls=PlainCommand)(info.info)


def main() -> None:
    """Run the command line, or say what to install where it cannot run."""
    try:
        app(prog_name="infall")
    except ModuleNotFoundError as error:
        # matplotlib and scikit-learn are imported only by the runs that need them.
        if (error.name or "").partition(".")[0] not in ("matplotlib", "sklearn"):
            raise
        raise SystemExit(_INSTALL_HINT.format(error.name)) from None
