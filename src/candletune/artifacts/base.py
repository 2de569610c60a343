"""The base of every artefact: frozen, versioned, read and written whole."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, PlainSerializer, ValidationError

from candletune.errors import InputError
from candletune.files import read_json, write_json

Moment = Annotated[AwareDatetime, PlainSerializer(lambda time: time.isoformat(), return_type=str, when_used="json")]
"""A time in UTC, written as `2024-06-24T14:00:00+00:00`."""


class Record(BaseModel):
    """A part of an artefact: frozen, no unknown keys, no NaN or infinity (JSON has neither)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Artifact(Record):
    """A JSON file of one version.

    A subclass sets `VERSION` and `COMMAND`, and gives its fields. Adding a field with a default needs no new version;
    renaming or removing one does: raise `VERSION`, and let `upgrade` turn the older content into the present one.

    Attributes:
        VERSION: of the content; the file's key `version`. A file from before versions were written counts as 1.
        COMMAND: the candletune command that writes the file, for error messages.
        REMEDY: what to do about a broken file, in words; empty: run the command again.
    """

    VERSION: ClassVar[int] = 1
    COMMAND: ClassVar[str]
    REMEDY: ClassVar[str] = ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; keys that this version does not know (a later one added them) are left out.

        Raises:
            InputError: the file is missing, broken, of a later version, or lacks what it must hold.
        """
        value = read_json(path)
        remedy = cls.REMEDY or f"run `candletune {cls.COMMAND}` again"
        if not isinstance(value, dict):
            raise InputError(f"{path}: expected a JSON object; {remedy}")
        version = value.get("version", 1)
        if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= cls.VERSION:
            raise InputError(f"{path}: version {version!r}, expected at most {cls.VERSION}; {remedy}")
        if version < cls.VERSION:
            value = cls.upgrade(value, version)
        try:
            return cls.model_validate({name: item for name, item in value.items() if name != "version"}, extra="ignore")
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{path}: {key}: {first['msg']}; {remedy}") from None

    @classmethod
    def read_if_there(cls, path: Path) -> Self | None:
        """The same, or None when there is no such file."""
        return cls.read(path) if path.is_file() else None

    @classmethod
    def upgrade(cls, value: dict[str, Any], version: int) -> dict[str, Any]:
        """The present version's content from an older one's; a subclass with older versions says how.

        Args:
            value: the file's content.
            version: its version, below `VERSION`.
        """
        return value

    def write(self, path: Path) -> None:
        """Write the file atomically, indented, keys in the order of the model."""
        write_json(path, {"version": self.VERSION} | self.model_dump(mode="json"))
