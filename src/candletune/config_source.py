"""Where configuration values come from: the TOML file, `--set`, and a command's own options.

Values are gathered with their source, so that a wrong one is blamed on what gave it. Paths become absolute here:
those in a file (and the defaults) start at the file's folder, those given on the command line at the working folder.
"""

import re
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PureWindowsPath
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from candletune.errors import UsageError

SECRETS = "notify.urls"
"""The key whose values are never shown or written."""
HIDDEN = (SECRETS, "engine.url")
"""Keys whose values no message shows; an address with a password in it is refused."""
FOLDER_OR_NAME = "base.model"
"""The one key whose text may be a folder or a name on the hub."""
REMOVED = {
    "live.prior_correction": "is gone: the decision is what the adapter says first; how often it acts is taught by "
    "train.call_share",
    "train.utility_entropy": "is gone: train.utility_temperature keeps the answers from running to 0 and 1",
}
"""What became of a key, by its name."""
_CONTROL = re.compile(r"[\x00-\x1f]")
_NO_TOML = (ValueError, OverflowError, RecursionError)
"""What reading TOML raises: its own errors, integers of thousands of digits, dates no calendar has, endless nesting."""
_Tables = dict[str, Any]
"""What TOML holds, before it is checked."""
_AT_LINE = re.compile(r"at line (\d+)")
_BACKSLASH_IN_QUOTES = re.compile(r'"[^"]*\\[^"]*"?')


@dataclass(frozen=True, slots=True)
class Gathered:
    """Values ready for validation.

    Attributes:
        values: nested by table, as `model_validate` wants them.
        sources: full key to what gave it, for keys that did not come from the file.
        file: how an error names the file; none: there is no file.
    """

    values: _Tables
    sources: Mapping[str, str]
    file: Path | None


def gather(
    model: type[BaseModel], path: Path | None, assignments: Sequence[str], overrides: Mapping[str, Any]
) -> Gathered:
    """The file's values, under `--set` assignments, under a command's own options.

    Args:
        model: the whole configuration's model.
        path: the TOML file; none: only defaults.
        assignments: `table.key=value`; the later of two counts.
        overrides: `table.key` to a value as Python has it; paths are relative to the working folder.

    Raises:
        UsageError: the file is missing or broken, or an assignment makes no sense; names file or assignment.
    """
    fields = dict(leaves(model))
    values = {} if path is None else read_toml(path)
    here = Path.cwd()
    _resolve(values, fields, here if path is None else path.parent.resolve(), str(path))
    sources: dict[str, str] = {}
    for text in assignments:
        parts, value = parse_assignment(text)
        for key, item in _flat(".".join(parts), value, fields):
            ready = _typed(item, text.partition("=")[2].strip(), fields.get(key))
            given = f"--set {key}" if key.startswith(HIDDEN) else f"--set {text}"
            _put(values, key, _local(ready, fields.get(key), key, here, given), given)
            sources[key] = f"--set {key}"
    for key, value in overrides.items():
        _put(values, key, _local(value, fields.get(key), key, here, key), key)
        sources[key] = key
    return Gathered(values, sources, path)


def read_toml(path: Path) -> _Tables:
    """A TOML file's content; a byte order mark, as Windows' editors write it, is accepted.

    Raises:
        UsageError: the file is missing, is not UTF-8, or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; `candletune init` writes one, or name it with --config") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: cannot be read as UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error}); give a TOML file with --config") from None
    try:
        return tomllib.loads(text)
    except _NO_TOML as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise UsageError(f"{path}: not valid TOML ({reason}); {_remedy(text, str(error))}") from None


def _remedy(text: str, message: str) -> str:
    at = _AT_LINE.search(message)
    lines = text.splitlines()
    line = lines[int(at[1]) - 1] if at and int(at[1]) <= len(lines) else ""
    if _BACKSLASH_IN_QUOTES.search(line):
        key = line.partition("=")[0].strip()
        return f"write a Windows path in single quotes ({key} = 'C:\\folder') or with forward slashes"
    return "mend that line"


def parse_assignment(text: str) -> tuple[list[str], Any]:
    r"""Split a `--set table.key=value`; the value is TOML, or a bare string when it is not valid TOML.

    Quotes around a bare string are taken off, so that `"C:\Users\x"` is that path.

    Raises:
        UsageError: no `=`, or an empty key.
    """
    key, separator, value = text.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise UsageError(f"--set {text[:80]}: expected table.key=value, for example --set dataset.per_class=500")
    value = value.strip()
    try:
        parsed = tomllib.loads(f"value = {value}")
    except _NO_TOML:
        return parts, _unquoted(value)
    return parts, parsed["value"] if len(parsed) == 1 else value


def _unquoted(value: str) -> str:
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if quoted else value


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key that holds a value, in full (`data.folder`), with its field."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def value_of(config: BaseModel, key: str) -> Any:
    """The value of a key given in full."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def placed(model: type[BaseModel], key: str, value: Any, folder: Path) -> Any:
    """A key's value as a file in that folder would give it: a relative path becomes absolute, an empty one none.

    Raises:
        UsageError: it is no path where one is wanted.
    """
    return _local(value, dict(leaves(model)).get(key), key, folder, key)


def holds(field: FieldInfo, kind: type) -> bool:
    """Whether a field's values are of that kind (or None)."""
    annotation = field.annotation
    options = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    return kind in options


def _flat(key: str, value: Any, fields: Mapping[str, FieldInfo]) -> Iterator[tuple[str, Any]]:
    """An inline table as one assignment a key."""
    if isinstance(value, dict) and value and any(name.startswith(f"{key}.") for name in fields):
        for name, item in value.items():
            yield f"{key}.{name}", item
    else:
        yield key, value


def _typed(value: Any, text: str, field: FieldInfo | None) -> Any:
    """What a command line means: text where text is wanted, a list where one item or `a,b` is given."""
    if field is None:
        return value
    if get_origin(field.annotation) is tuple and isinstance(value, str):
        return [item for item in (part.strip() for part in value.split(",")) if item]
    textual = holds(field, Path) or holds(field, str)
    return text if textual and not isinstance(value, str | dict | list) else value


def _put(values: _Tables, key: str, value: Any, source: str) -> None:
    table: Any = values
    *tables, last = key.split(".")
    for part in tables:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise UsageError(f"{source}: {part} is a value, not a table")
    table[last] = value


def _resolve(values: _Tables, fields: Mapping[str, FieldInfo], folder: Path, source: str) -> None:
    """Make the paths in `values` absolute in place, and add those at their default."""
    for key, field in fields.items():
        *tables, last = key.split(".")
        table: Any = values
        for part in tables:
            table = table.get(part, {}) if isinstance(table, dict) else None
        if not isinstance(table, dict):
            continue
        if last in table:
            table[last] = _local(table[last], field, key, folder, f"{source}: {key}")
        elif isinstance(field.default, Path):
            _put(values, key, _local(field.default, field, key, folder, key), key)


def _local(value: Any, field: FieldInfo | None, key: str, folder: Path, source: str) -> Any:
    """A path made absolute; an empty one where none is allowed means none; anything else as it is."""
    if field is None or not isinstance(value, str | Path):
        return value
    if key == FOLDER_OR_NAME:
        return _folder_or_name(str(value), folder)
    if not holds(field, Path):
        return value
    if value == "":
        if holds(field, types.NoneType):
            return None
        raise UsageError(f"{source}: empty; give a path")
    if _CONTROL.search(str(value)):
        raise UsageError(
            f"{source}: {str(value)!r} is not a path; in double quotes TOML reads a backslash as an escape, so write "
            "a Windows path in single quotes or with forward slashes"
        )
    return folder / _expanded(Path(value), source)


def _expanded(path: Path, source: str) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise UsageError(f"{source}: {path}: no such user's home folder; write the whole path") from None


def _folder_or_name(value: str, folder: Path) -> str:
    """A folder as its absolute path; a name on the hub, or `tiny`, as it is."""
    if not value or value in ("tiny", "smollm2"):
        return value
    marked = value.startswith(("~", ".")) or Path(value).is_absolute() or PureWindowsPath(value).is_absolute()
    path = folder / _expanded(Path(value), FOLDER_OR_NAME)
    return str(path) if marked or path.is_dir() else value


def explain(error: ValidationError, gathered: Gathered, model: type[BaseModel]) -> str:
    """One line: each source with the keys it got wrong."""
    problems: dict[str, list[str]] = {}
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            text = f"{key}: {REMOVED.get(key) or 'unknown key' + _nearest(item['loc'], model)}"
        elif item["type"] == "model_type":
            text = f"{key}: is a table, not a value; set a key of it, such as {_first_key(item['loc'], model)}"
        elif item["type"] == "too_short":
            text = f"{key}: name at least one"
        else:
            shown = bool(key) and not isinstance(item["input"], dict) and not key.startswith(HIDDEN)
            given = f", got {_written(item['input'])}" if shown else ""
            text = f"{key}: {message}{given}" if key else message
        source = _blamed(key or message, gathered)
        problems.setdefault(source, []).append(text.removeprefix(f"{source.removeprefix('--set ')}: "))
    return "; ".join(f"{source}: {'; '.join(texts)}" for source, texts in problems.items())


def _written(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= 200 else f"{text[:200]}..."


def _first_key(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    table = ".".join(str(part) for part in location)
    return next(key for key, _ in leaves(model) if key.startswith(f"{table}."))


def _blamed(key: str, gathered: Gathered) -> str:
    """What gave the key (a message that names its keys will do): an assignment, else the file."""
    if key in gathered.sources:
        return gathered.sources[key]
    for assigned, source in gathered.sources.items():
        if key.startswith((f"{assigned}.", f"{assigned}:")) or assigned.startswith(f"{key}."):
            return source
    for assigned, source in gathered.sources.items():
        if re.search(rf"(?<![\w.]){re.escape(assigned)}(?![\w.])", key):
            return source
    return "configuration" if gathered.file is None else str(gathered.file)


def _shortened(typed: str, names: Sequence[str]) -> list[str]:
    """`lr` for `learning_rate`, `rank` for `lora_rank`: initials, or one of the words."""
    initials = sorted(name for name in names if "".join(word[0] for word in name.split("_")) == typed)
    return initials or [name for name in names if typed in name.split("_")]


def _nearest(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return ""
        model = field.annotation
    names = list(model.model_fields)
    elsewhere = [key for key, _ in leaves(model) if key.rpartition(".")[2] == location[-1]]
    close = elsewhere or get_close_matches(str(location[-1]), names, n=1)
    close = close[:1] or _shortened(str(location[-1]), names)
    return f" (did you mean {' or '.join(close)}?)" if close else f"; known keys: {', '.join(names)}"
