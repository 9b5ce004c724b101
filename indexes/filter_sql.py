"""Filter → SQL with parameters. No value and no field name of a person ever enters the SQL text."""

from __future__ import annotations

from typing import Any

import msgspec

from indexes.errors import InvalidInput
from indexes.filters import Condition, Filter, Range, Scalar

_BOUNDS = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<"}


def where_clause(chosen: Filter) -> tuple[str, list[Any]]:
    """SQL over `documents.metadata`, and its parameters. Raises `InvalidInput`."""
    clauses: list[str] = []
    parameters: list[Any] = []
    for condition in chosen.must:
        _append(clauses, parameters, _condition(condition))
    for condition in chosen.must_not:
        sql, values = _condition(condition)
        _append(clauses, parameters, (f"NOT {sql}", values))
    if chosen.should:
        parts = [_condition(condition) for condition in chosen.should]
        either = " OR ".join(sql for sql, _ in parts)
        _append(clauses, parameters, (f"({either})", [v for _, values in parts for v in values]))
    return (" AND ".join(clauses) or "TRUE"), parameters


def _append(clauses: list[str], parameters: list[Any], part: tuple[str, list[Any]]) -> None:
    clauses.append(part[0])
    parameters.extend(part[1])


def _condition(condition: Condition) -> tuple[str, list[Any]]:
    tests = [
        name
        for name, value in (
            ("match", condition.match),
            ("in", condition.any_of),
            ("range", condition.range),
            ("exists", condition.exists),
        )
        if value is not None
    ]
    if len(tests) != 1:
        raise InvalidInput(
            f"a condition on {condition.field!r} needs exactly one of match, in, range, exists",
            "/filter",
        )
    path = json_path(condition.field)
    if condition.exists is not None:
        sql = "coalesce(json_exists(metadata, ?), false)"
        return (sql if condition.exists else f"(NOT {sql})"), [path]
    if condition.range is not None:
        return _range(path, condition.range)
    values = condition.any_of if condition.any_of is not None else [condition.match]
    return _any_of(path, [value for value in values if value is not None])


def json_path(field: str) -> str:
    """`a.b` → `$."a"."b"`, each key quoted so that it can be nothing but a key."""
    keys = field.split(".")
    if any(not key or '"' in key or "\\" in key or "*" in key for key in keys):
        raise InvalidInput(f"{field!r} is not a field path", "/filter")
    return "$" + "".join(f'."{key}"' for key in keys)


def _any_of(path: str, values: list[Scalar]) -> tuple[str, list[Any]]:
    """Equality with any value, or, where the field is a list, membership of any value."""
    encoded = [msgspec.json.encode(value).decode() for value in values]
    texts = [value for value in values if isinstance(value, str)]
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    booleans = [
        code for code, value in zip(encoded, values, strict=True) if isinstance(value, bool)
    ]
    element = (
        "((json_type(e) = 'VARCHAR' AND list_contains(?::VARCHAR[], json_extract_string(e, '$')))"
        " OR (json_type(e) IN ('BIGINT', 'UBIGINT', 'DOUBLE')"
        " AND list_contains(?::DOUBLE[], TRY_CAST(e AS DOUBLE)))"
        " OR (json_type(e) = 'BOOLEAN' AND list_contains(?::VARCHAR[], e::VARCHAR)))"
    )
    elements = (
        "CASE json_type(metadata, ?) WHEN 'ARRAY' THEN json_extract(metadata, ?)::JSON[]"
        " ELSE [json_extract(metadata, ?)] END"
    )
    sql = f"coalesce(list_bool_or([{element} FOR e IN {elements}]), false)"
    return sql, [texts, numbers, booleans, path, path, path]


def _range(path: str, bounds: Range) -> tuple[str, list[Any]]:
    given = {name: getattr(bounds, name) for name in _BOUNDS if getattr(bounds, name) is not None}
    if not given:
        raise InvalidInput("a range needs at least one of gte, gt, lte, lt", "/filter")
    kinds = {isinstance(value, str) for value in given.values()}
    if len(kinds) != 1:
        raise InvalidInput("a range's bounds must be all numbers or all strings", "/filter")
    if kinds == {True}:
        kind, value = "'VARCHAR'", "json_extract_string(metadata, ?)"
    else:
        kind, value = (
            "'BIGINT', 'UBIGINT', 'DOUBLE'",
            "TRY_CAST(json_extract(metadata, ?) AS DOUBLE)",
        )
    tests = " AND ".join(f"{value} {_BOUNDS[name]} ?" for name in given)
    parameters: list[Any] = [path]
    for bound in given.values():
        parameters += [path, bound]
    return (
        f"coalesce(CASE WHEN json_type(metadata, ?) IN ({kind}) THEN {tests} END, false)",
        parameters,
    )
