"""The base of the response models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ApiModel(BaseModel):
    """A JSON object of the API; further keys are passed on, keys that are not set are left out."""

    model_config = ConfigDict(extra="allow")


class Empty(ApiModel):
    """An object without keys."""
