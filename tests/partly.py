"""Parts of artefacts, for tests of what reads only those."""

from typing import Any, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def partly(model: type[Model], **values: Any) -> Model:
    """A model with only these fields, unchecked; reading another one fails."""
    return model.model_construct(**values)
