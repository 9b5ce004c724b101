"""What can stand at a place of a program, as jedi's completion says it, faster.

To list the members of a class jedi goes through every name of each file that the class and its
bases stand in, whenever it is asked: most of a question's time, and for a string that is all of
`builtins.pyi`. What a class or a module of another file holds is the same for every question, so it
is remembered by its node of the syntax tree, which jedi keeps for as long as the file is the same.
And an expression may be found to be many values that have the same members, such as dozens of
strings: they are listed once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from pathlib import Path
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


_remembered: OrderedDict[tuple[Any, ...], tuple[_Known, ...]] = OrderedDict()


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
            listed = (name for value in _unlike(values) for name in _listed_once(value, origin))
            # The library tells names apart by how they are spelled; it takes the first.
            found: dict[str, Any] = {}
            for name in listed:
                found.setdefault(name.string_name, name)
            return list(found.values())

    return Members


def _unlike(values: Iterable[Any]) -> Iterator[Any]:
    """The values, but for those that are sure to have the members of one before."""
    seen = set()
    for value in values:
        kind = _kind(value)
        if kind is None or kind not in seen:
            yield value
        seen.add(kind)


def _listed_once(value: Any, origin: Any) -> Iterable[Any]:
    """`_members`; those of the standard library's classes and modules are listed once.

    What its stubs declare, and what its own source has besides, stays the same.
    """
    kind = _kind(value)
    if kind is None or not _is_standard(kind[-1]):
        return _members(value, origin)
    if kind not in _remembered:
        kept = (name.string_name for name in _members(value, origin) if not _is_deleted(name))
        _remember(kind, kept)
    _remembered.move_to_end(kind)
    return _remembered[kind]


def _kind(value: Any) -> Any:
    """What tells which members a stub's module has, or an instance of a class of one; else None.

    A stub has no attributes but those that are declared in its classes, whichever instance it is.
    """
    from jedi.inference.base_value import _ValueWrapperBase
    from jedi.inference.gradual.stub_value import StubModuleValue, TypingModuleWrapper
    from jedi.inference.value.instance import TreeInstance

    if type(value) in (StubModuleValue, TypingModuleWrapper):
        return type(value), value.tree_node
    around = []
    while isinstance(value, _ValueWrapperBase):
        if any("get_filters" in vars(one) for one in type(value).__mro__):
            return None
        around.append(type(value))
        value = value._wrapped_value
    if type(value) is not TreeInstance:
        return None
    made = value.class_value
    is_plain = made.is_stub() and made.parent_context.is_module()
    return (*around, TreeInstance, made.tree_node) if is_plain else None


@lru_cache(maxsize=MAX_SCOPES)
def _is_standard(node: Any) -> bool:
    """Whether a node of a syntax tree is of a stub of the standard library, the library's own."""
    from jedi.inference.gradual.typeshed import TYPESHED_PATH
    from parso.cache import parser_cache

    module, standard = node.get_root_node(), TYPESHED_PATH / "stdlib"
    return any(
        kept.node is module and path is not None and standard in Path(path).parents
        for files in parser_cache.values()
        for path, kept in files.items()
    )


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
        _remember(key, (one.string_name for one in names.values() if not _is_deleted(one)))
    _remembered.move_to_end(key)
    return _remembered[key]


def _remember(key: Any, names: Iterable[str]) -> None:
    _remembered[key] = tuple(map(_Known, dict.fromkeys(names)))
    if len(_remembered) > MAX_SCOPES:
        _remembered.popitem(last=False)


def _is_deleted(name: Any) -> bool:
    definition = name.tree_name.get_definition() if name.tree_name is not None else None
    return definition is not None and definition.type == "del_stmt"
