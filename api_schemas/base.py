"""The two bases of every model here: what strangers send is strict, what we send is frozen.

A string below a field is its description in the OpenAPI document.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from api_schemas.strict_types import with_strict_types


class StrictModel(BaseModel):
    """Input: unknown fields are errors, values are immutable once checked; infinity, NaN and texts are no numbers here."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: CoreSchema = with_strict_types(handler(source))
        return schema


class FrozenModel(BaseModel):
    """What the service or the engine says. Readers of an older version ignore fields they do not know."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)
