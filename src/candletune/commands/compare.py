"""`compare`: runs side by side."""

from pathlib import Path

import click

PAGE = Path("compare.html")


@click.command(epilog="Example: candletune compare runs/rank8 runs/rank16 --out compare.html")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path(path_type=Path))
@click.option("--against", metavar="RUN", help="The run that the others are held against; none: the first one named.")
@click.option(
    "--out",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    default=PAGE,
    show_default=True,
    help="The page to write.",
)
@click.option(
    "--mlflow", "uri", metavar="URI", help="Log the runs to MLflow: sqlite:///mlflow.db, http://... (extra `mlflow`)."
)
@click.option("--experiment", default="candletune", show_default=True, help="With --mlflow: MLflow's experiment.")
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback on errors.")
def compare(runs: tuple[Path, ...], against: str | None, page: Path, uri: str | None, experiment: str) -> None:
    """Show runs side by side, here and on one page: what differs, and whether that is more than luck.

    RUN is a run folder, or a folder of such, as a sweep leaves it. Compared are settings, training, certificate,
    verdict, calibration and cost; candidates are paired on the decision times that both answered, and what is said of
    many runs at once is corrected for how many they are. Nothing is computed anew, and nothing is promoted.
    """
    from candletune.experiments.compare_page import comparison_page
    from candletune.experiments.compare_table import comparison_text
    from candletune.experiments.comparison import compare as compared_runs
    from candletune.experiments.entrants import read_entrants, reference_of, run_folders
    from candletune.files import write_text

    entrants = read_entrants(run_folders(runs))
    compared = compared_runs(entrants, reference_of(entrants, against))
    click.echo(comparison_text(compared))
    write_text(page, comparison_page(compared))
    click.echo(f"page: {page}", err=True)
    if uri is None:
        return
    from candletune.experiments.tracking import log_runs

    for run in log_runs(entrants, uri, experiment):
        click.echo(f"mlflow: {run.name}: {'logged' if run.new else 'up to date'} ({run.run_id})", err=True)
