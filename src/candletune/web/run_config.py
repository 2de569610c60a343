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
        InputError: the run's settings are those of another version of candletune.
    """
    if run.path.resolve() == configured.run.folder.resolve():
        return _with_candles(run, configured)
    if run.demo_config.is_file():
        try:
            config = load_config(run.demo_config)
        except CandletuneError as error:
            raise InputError(f"{error}; mend the file to see this run") from None
        if config.run.folder.resolve() == run.path.resolve():
            return _with_candles(run, config)
    return _with_candles(run, _from_manifest(run, configured))


def _from_manifest(run: RunFolder, configured: Config) -> Config:
    values = configured.model_dump()
    for entry in run.manifest().stages.values():
        for table, settings in entry.settings.items():
            if isinstance(settings, dict) and isinstance(values.get(table), dict):
                values[table] |= settings
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
