"""The settings of a command, refused with a sentence where they are wrong; and the table of all settings."""

from typing import TypeVar

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from app.core.settings import ApiSettings, ServiceSettings, WorkerSettings
from model.domain import ApexError

Settings = TypeVar("Settings", bound=ServiceSettings)


class WrongSetting(ApexError):
    """A flag or an environment variable has a value that cannot be used."""


def load_settings(kind: type[Settings]) -> Settings:
    """The settings of this process, from flags and environment."""
    try:
        return kind()
    except ValidationError as error:
        raise WrongSetting("; ".join(_sentence(problem["loc"], problem["msg"]) for problem in error.errors())) from None


def _sentence(location: tuple[int | str, ...], message: str) -> str:
    name = "".join(f"APEX_{part}".upper() for part in location)
    return f"{name}: {message}" if name else message.removeprefix("Value error, ")


def markdown() -> str:
    """Every setting as a Markdown table, made from the classes that declare them."""
    rows = ["| variable | for | default | meaning |", "| --- | --- | --- | --- |"]
    return "\n".join(rows + [_row(name, field, owner) for name, (field, owner) in _declared().items()])


def _declared() -> dict[str, tuple[FieldInfo, str]]:
    kinds = (("both", ServiceSettings), ("API", ApiSettings), ("worker", WorkerSettings))
    return {
        name: (field, owner)
        for owner, kind in kinds
        for name, field in kind.model_fields.items()
        if owner == "both" or name not in ServiceSettings.model_fields
    }


def _row(name: str, field: FieldInfo, owner: str) -> str:
    value = str(field.default).lower() if field.default is False else field.default
    default = "" if value in (None, "", ()) else f"`{value}`"
    meaning = " ".join((field.description or "").split())
    return f"| `APEX_{name.upper()}` | {owner} | {default} | {meaning} |"
