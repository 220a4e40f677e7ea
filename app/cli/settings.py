"""The table of all settings."""

from pydantic.fields import FieldInfo

from app.core.settings import ApiSettings, ServiceSettings, WorkerSettings


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
    default = f"`{_as_set(field.default)}`" if field.default not in (None, "", ()) else ""
    meaning = " ".join((field.description or "").split())
    return f"| `APEX_{name.upper()}` | {owner} | {default} | {meaning} |"


def _as_set(value: object) -> str:
    """A value as it stands in the environment."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is False else str(value)
