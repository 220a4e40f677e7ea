"""The type of a JSON object, as records, problems and documents are made of."""

from typing import Any

Json = dict[str, Any]
