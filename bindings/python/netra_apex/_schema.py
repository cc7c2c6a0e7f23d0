"""JSON Schema from type hints, and values of those types from JSON."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeAlias, Union, cast, get_args, get_origin, get_type_hints
from uuid import UUID

Schema: TypeAlias = dict[str, Any] | bool

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    type(None): {"type": "null"},
    datetime.datetime: {"type": "string", "format": "date-time"},
    datetime.date: {"type": "string", "format": "date"},
    Decimal: {"type": "string", "format": "decimal"},
    UUID: {"type": "string", "format": "uuid"},
}


def schema_of(hint: Any) -> Schema:
    """The JSON Schema of a hint.

    Raises `TypeError` for one that JSON cannot carry.
    """
    if hint is Any or hint is object:
        return True
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if is_model(hint):
        return hint.model_json_schema()
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        schema = schema_of(arguments[0])
        told = [note for note in arguments[1:] if isinstance(note, str)]
        return {**schema, "description": told[0]} if told and isinstance(schema, dict) else schema
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(one) for one in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if hint in (list, tuple, Sequence) or origin in (list, Sequence, set, frozenset):
        return {"type": "array", **({"items": schema_of(arguments[0])} if arguments else {})}
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is ...:
            return {"type": "array", "items": schema_of(arguments[0])}
        places = len(arguments)
        return {
            "type": "array",
            "prefixItems": [schema_of(one) for one in arguments],
            "minItems": places,
            "maxItems": places,
        }
    if hint in (dict, Mapping) or origin in (dict, Mapping):
        return {"type": "object", **({"additionalProperties": schema_of(arguments[1])} if arguments else {})}
    if _is_enum(hint):
        return {"enum": [member.value for member in hint]}
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        fields = {field.name: schema_of(hints[field.name]) for field in dataclasses.fields(hint)}
        needed = [field.name for field in dataclasses.fields(hint) if _is_needed(field)]
        return _object(fields, needed)
    if typing.is_typeddict(hint):
        fields = {name: schema_of(one) for name, one in get_type_hints(hint).items()}
        return _object(fields, sorted(hint.__required_keys__))
    raise TypeError(f"{hint!r} has no JSON Schema; use plain types, dataclasses, TypedDicts or models of pydantic")


def rooted(schema: Schema) -> Schema:
    """The schema with the definitions of the models in it where their references look for them."""
    found: dict[str, Any] = {}
    bare = _without_definitions(schema, found)
    return {**bare, "$defs": found} if found and isinstance(bare, dict) else bare


def _without_definitions(part: Any, found: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_without_definitions(one, found) for one in cast(list[Any], part)]
    if not isinstance(part, dict):
        return part
    fields = cast(dict[str, Any], part)
    for name, definition in fields.get("$defs", {}).items():
        found[name] = _without_definitions(definition, found)
    return {name: _without_definitions(one, found) for name, one in fields.items() if name != "$defs"}


def value_of(hint: Any, value: Any) -> Any:
    """A JSON value that fits the schema as a value of the hint."""
    if hint is str or hint is int or hint is bool or hint is Any:
        return value
    if is_model(hint):
        return hint.model_validate(value)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return value_of(arguments[0], value)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value)
    if value is None or hint is Any or hint is object:
        return value
    if hint is float and isinstance(value, int):
        return float(value)
    if hint in (datetime.datetime, datetime.date):
        return hint.fromisoformat(value.replace("Z", "+00:00"))
    if hint in (Decimal, UUID):
        return hint(value)
    if origin in (list, Sequence):
        return [value_of(arguments[0], item) for item in value]
    if origin is set:
        return {value_of(arguments[0], item) for item in value}
    if origin is frozenset:
        return frozenset(value_of(arguments[0], item) for item in value)
    if origin is tuple:
        each = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        return tuple(value_of(one, item) for one, item in zip(each, value, strict=True))
    if origin in (dict, Mapping):
        return {name: value_of(arguments[1], item) for name, item in value.items()}
    if _is_enum(hint):
        return hint(value)
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint, include_extras=True)
        return cast(Any, hint)(**{name: value_of(hints[name], item) for name, item in value.items() if name in hints})
    return value


def _is_enum(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, enum.Enum)


def is_model(hint: Any) -> bool:
    """Whether it is a model of pydantic, which need not be installed."""
    return isinstance(hint, type) and hasattr(hint, "model_json_schema") and hasattr(hint, "model_validate")


def _one_of(hints: Sequence[Any], value: Any) -> Any:
    """The value as the first of the hints that takes it."""
    if value is None and type(None) in hints:
        return None
    trouble: Exception | None = None
    for hint in hints:
        if hint is type(None):
            continue
        plain = _PLAIN.get(hint, {}).get("type")
        kinds = {"string": str, "boolean": bool, "integer": int, "number": (int, float)}
        if plain in kinds and not isinstance(value, kinds[plain]):
            continue
        try:
            return value_of(hint, value)
        except (TypeError, ValueError, AttributeError) as error:
            trouble = error
    if trouble is not None:
        raise trouble
    return value


def _object(fields: dict[str, Schema], needed: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": needed}


def _is_needed(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
