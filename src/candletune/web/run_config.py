"""The configuration of a run that somebody else's command may have made: its own file, or what its manifest kept."""

from pydantic import ValidationError

from candletune.config import Config, load_config
from candletune.errors import CandletuneError, InputError
from candletune.runs import RunFolder


def config_of(run: RunFolder, configured: Config) -> Config:
    """How a run is looked at.

    Args:
        run: the run folder.
        configured: the program's own configuration; it counts for its own run folder, and for every table that the
            run's stages did not depend on.

    Raises:
        InputError: the run's settings have values that this version of candletune does not take.
    """
    if run.path.resolve() == configured.run.folder.resolve():
        return _with_candles(run, configured)
    own = _own_file(run)
    if own is not None:
        return _with_candles(run, own)
    return _with_candles(run, _from_manifest(run, configured))


def _own_file(run: RunFolder) -> Config | None:
    """The configuration that lies in the run folder; None where it is about another run, or can't be read any more."""
    if not run.demo_config.is_file():
        return None
    try:
        config = load_config(run.demo_config)
    except CandletuneError:
        return None
    return config if config.run.folder.resolve() == run.path.resolve() else None


def _from_manifest(run: RunFolder, configured: Config) -> Config:
    """The stages' settings over the program's own; keys that this version does not know are left out."""
    values = configured.model_dump()
    for entry in run.manifest().stages.values():
        for table, settings in entry.settings.items():
            known = values.get(table)
            if isinstance(settings, dict) and isinstance(known, dict):
                known |= {key: value for key, value in settings.items() if key in known}
            elif table in values:
                values[table] = settings
    values["run"] = {"folder": run.path}
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{run.manifest_file}: settings of another version of candletune ({key}: {first['msg']}); run it again"
        ) from None


def _with_candles(run: RunFolder, config: Config) -> Config:
    """A simulated market's candles lie in the run."""
    if not config.simulate.enabled or not run.candles.is_dir():
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"folder": run.candles})})
