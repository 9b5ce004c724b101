"""What can stand at a place of a program, as jedi's completion says it, faster.

To list the members of a class jedi goes through every name of each file that the class and its
bases stand in, whenever it is asked: most of a question's time, and for a string that is all of
`builtins.pyi`. What a class or a module of another file holds is the same for every question, so it
is remembered by its node of the syntax tree, which jedi keeps for as long as the file is the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

MAX_SCOPES = 5_000
"""Classes and modules remembered: those that were asked for last."""


class _Known(NamedTuple):
    """As much of a name of the library as its completion needs."""

    string_name: str
    tree_name: None = None

    def get_public_name(self) -> str:
        """The name."""
        return self.string_name


_remembered: OrderedDict[tuple[type, Any], tuple[_Known, ...]] = OrderedDict()


def names_at(script: Any, line: int, column: int) -> frozenset[str]:
    """The names of `script.complete(line, column)`, for a `jedi.Script`.

    What is remembered is the whole process': hold the library's lock. Raises what the library
    raises over an unfinished program.
    """
    completion = _completion_class()(
        script._inference_state,
        script._get_module_context(),
        script._code_lines,
        (line, column),
        script.get_signatures,
    )
    return frozenset(one.name for one in completion.complete())


@cache
def _completion_class() -> Any:
    """The library's own, but for how members are listed; the library is slow to load."""
    from jedi.api.completion import Completion, get_user_context

    class Members(Completion):  # type: ignore[misc]
        def _complete_trailer_for_values(self, values: Any) -> list[Any]:
            origin = get_user_context(self._module_context, self._position)
            return [name for value in values for name in _members(value, origin)]

    return Members


def _members(value: Any, origin: Any) -> Iterator[Any]:
    """All that stands after a point behind `value`, seen from the place `origin`.

    What the library's own `complete_trailer` lists.
    """
    from jedi.api.completion import TreeInstance, _complete_getattr, convert_values

    own = origin.get_root_context().tree_node
    for one in [value, *(other for other in convert_values([value]) if other != value)]:
        for names in one.get_filters(origin_scope=origin.tree_node):
            yield from _listed(names, own)
    if not value.is_stub() and isinstance(value, TreeInstance):
        yield from _complete_getattr(origin, value)


def _listed(names: Any, own: Any) -> Iterable[Any]:
    """The names of one of the library's filters; it is of one scope, and perhaps of one file."""
    inner = getattr(names, "_class_filter", names)
    scope = getattr(inner, "_parser_scope", None)
    if scope is None or scope.get_root_node() is own or inner._parso_cache_node is None:
        found: Iterable[Any] = names.values()
        return found
    key = type(inner), scope
    if key not in _remembered:
        kept = (name.string_name for name in names.values() if not _is_deleted(name))
        _remembered[key] = tuple(map(_Known, dict.fromkeys(kept)))
        if len(_remembered) > MAX_SCOPES:
            _remembered.popitem(last=False)
    _remembered.move_to_end(key)
    return _remembered[key]


def _is_deleted(name: Any) -> bool:
    definition = name.tree_name.get_definition() if name.tree_name is not None else None
    return definition is not None and definition.type == "del_stmt"
