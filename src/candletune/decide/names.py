"""What models are called, by the hashes that journals hold."""

from candletune.artifacts import LiveState
from candletune.config import Config
from candletune.decide.models import BARE_BASE
from candletune.errors import InputError
from candletune.gguf.catalogue import versions
from candletune.hashes import sha256_path
from candletune.runs import RunFolder


def name_of(config: Config, run: RunFolder, sha256: str | None) -> str:
    """A model's name, from whoever knows the hash; else its first twelve digits.

    The name that the state file has, the versioned name of an export of this run, or the configured incumbent's.
    """
    if sha256 is None:
        return BARE_BASE
    names = {**_of_incumbent(config), **versions(run.gguf), **_of_state(config)}
    return names.get(sha256, sha256[:12])


def _of_state(config: Config) -> dict[str, str]:
    try:
        state = LiveState.read_if_there(config.live.state)
    except InputError:  # a name is no reason to fail; whoever asks who acts says what is wrong
        return {}
    if state is None:
        return {}
    names: dict[str, str] = {}
    for change in state.history:
        names |= _pair(change.before.adapter_sha256, change.before.name)
        names |= _pair(change.after.adapter_sha256, change.after.name)
    for model in (*state.previous, state.active):
        names |= _pair(model.adapter_sha256, model.name)
    return names


def _pair(sha256: str | None, name: str) -> dict[str, str]:
    return {} if sha256 is None else {sha256: name}


def _of_incumbent(config: Config) -> dict[str, str]:
    path = config.incumbent.adapter
    return {} if path is None or not path.is_file() else {sha256_path(path): config.incumbent.name or path.stem}
