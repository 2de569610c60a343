"""Writes the JSON schema of every artefact beside this file: `python docs/schemas/write.py`."""

import inspect
import json
import re
from pathlib import Path

from candletune.artifacts import Artifact, Record
from candletune.artifacts.index import ARTIFACTS

FOLDER = Path(__file__).parent


def schema_path(artifact: type[Artifact]) -> Path:
    """`Metrics` -> `metrics.schema.json`."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", artifact.__name__).lower()
    return FOLDER / f"{name}.schema.json"


def schema_text(artifact: type[Artifact]) -> str:
    """The schema of the file as it is written."""
    schema = artifact.model_json_schema(mode="serialization")
    described = [kind for kind in artifact.__mro__ if issubclass(kind, Record) and kind not in (Artifact, Record)]
    schema["description"] = "\n\n".join(inspect.getdoc(kind) or "" for kind in described)
    schema["properties"] = {"version": {"const": artifact.VERSION}} | schema["properties"]
    schema["required"] = ["version", *schema["required"]]
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for kind in ARTIFACTS:
        schema_path(kind).write_text(schema_text(kind), encoding="utf-8")
