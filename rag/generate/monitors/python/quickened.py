"""jedi's search for an attribute, with what it does again and again done once.

To find one attribute of a string jedi makes a filter for each of the classes that a string is, and
another for what their methods may assign to `self`; each asks where the syntax tree of its file is
kept, and which of the names in it are defined where. Most of a question goes into that. Within
`quickened()` the same is found with less:

* A stub that assigns nothing to attributes (they are declared in classes) is known not to, once.
* Where a tree is kept is asked once a question.
* Which definition of a name in a class or module of a stub holds is remembered where that takes no
  inference: where no definition depends on a condition such as the version of Python.
* Of many values that are all strings, or numbers, one is asked for its attributes.

And one thing is found otherwise. The library infers the condition of an `if` to see whether what is
assigned under it can be reached: where that is not sure, which it hardly ever is, all the work was
for nothing. Here only conditions on Python itself are inferred, such as its version; under any
other one everything is reachable, so of a program with a constant false condition more is found.

Only one thread may be within at a time: hold the library's lock.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

_TREES: dict[Any, tuple[Any, bool]] = {}
"""Of the modules of one question, by tree: where the library keeps it, and whether it is a stub."""

_HELD: WeakKeyDictionary[Any, dict[tuple[Any, ...], Any]] = WeakKeyDictionary()
"""Of each kept tree of a stub: what is remembered; see `_held` and `_assigns`."""


_ON_PYTHON = re.compile(r"\b(?:version_info|platform|TYPE_CHECKING)\b")

MANY_VALUES = 3

_PLAIN = frozenset({"bool", "bytes", "complex", "float", "int", "str"})
"""Builtin classes whose instances have the same attributes, however they came about."""


@contextmanager
def quickened() -> Iterator[None]:
    """Replace the slow functions of the library by those of this module."""
    replacing = _replacing()
    before = [getattr(owner, name) for owner, name, _ in replacing]
    _TREES.clear()
    for owner, name, quick in replacing:
        setattr(owner, name, quick)
    try:
        yield
    finally:
        for (owner, name, _), slow in zip(replacing, before, strict=True):
            setattr(owner, name, slow)
        _TREES.clear()


class _Nothing:
    """The filter of what the methods of such a stub assign to `self`."""

    def get(self, _name: str) -> list[Any]:
        """No name."""
        return []

    def values(self) -> list[Any]:
        """No name."""
        return []


_NOTHING = _Nothing()


@cache
def _replacing() -> Sequence[tuple[Any, str, Callable[..., Any]]]:
    """Class, name of its method, what replaces it. The library is slow to load."""
    from jedi.inference import filters, flow_analysis
    from jedi.inference.base_value import ValueSet
    from jedi.inference.value.instance import _BaseTreeInstance

    return (
        (_BaseTreeInstance, "get_filters", _filters_of_instance),
        (filters._AbstractUsedNamesFilter, "__init__", _open_filter),
        (flow_analysis, "_check_if", _checked_by(flow_analysis._check_if)),
        (ValueSet, "py__getattribute__", _once_for_alike(ValueSet.py__getattribute__)),
        (filters.ParserTreeFilter, "_filter", _held_by(filters.ParserTreeFilter._filter)),
    )


def _filters_of_instance(
    self: Any, origin_scope: Any = None, include_self_names: bool = True
) -> Iterator[Any]:
    from jedi.inference.compiled.value import CompiledValueFilter
    from jedi.inference.value import instance
    from jedi.inference.value.klass import ClassFilter

    made = self.get_annotated_class_object()
    if include_self_names:
        for one in made.py__mro__():
            if one.is_compiled():
                continue
            context = one.as_context()
            if _assigns(context.get_root_context()):
                yield instance.SelfAttributeFilter(self, made, context, origin_scope)
            else:
                # The library counts them.
                yield _NOTHING
    for names in made.get_filters(origin_scope=origin_scope, is_instance=True):
        if isinstance(names, ClassFilter):
            yield instance.InstanceClassFilter(self, names)
        elif isinstance(names, CompiledValueFilter):
            yield instance.CompiledInstanceClassFilter(self, names)
        else:
            yield names


def _open_filter(self: Any, parent_context: Any, node_context: Any = None) -> None:
    context = parent_context if node_context is None else node_context
    module = context.get_root_context()
    self._node_context = context
    self._parser_scope = context.tree_node
    self._parso_cache_node, self._is_of_stub = _tree(module)
    self._used_names = module.tree_node.get_used_names()
    self.parent_context = parent_context


def _checked_by(slow: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """`slow(context, condition)`, where the condition is on Python or a constant; else unsure."""
    from jedi.inference.flow_analysis import UNSURE

    def checked(context: Any, node: Any) -> Any:
        is_cheap = node.type in ("keyword", "number") or _ON_PYTHON.search(node.get_code())
        return slow(context, node) if is_cheap else UNSURE

    return checked


def _once_for_alike(slow: Callable[..., Any]) -> Callable[..., Any]:
    """`slow(values, ...)` for one of those values that are alike, and for all others."""

    def once(self: Any, *arguments: Any, **keywords: Any) -> Any:
        if len(self) < MANY_VALUES:
            return slow(self, *arguments, **keywords)
        kept = {_plain_class(value) or value: value for value in self}
        return slow(type(self)(kept.values()), *arguments, **keywords)

    return once


def _plain_class(value: Any) -> Any:
    """The node of the syntax tree of the class of such a value; None for another one."""
    from jedi.inference.value.instance import TreeInstance

    if type(value) is not TreeInstance:
        return None
    made = value.class_value
    if made.py__name__() not in _PLAIN or not made.is_stub():
        return None
    return made.tree_node if made.get_root_context().py__name__() == "builtins" else None


def _held_by(slow: Callable[[Any, Any], Any]) -> Callable[[Any, Any], list[Any]]:
    """`slow(filter, definitions of a name)`, remembered: those of them that hold."""

    def held(self: Any, names: Any) -> list[Any]:
        kept = self._parso_cache_node
        is_of_stub = getattr(self, "_is_of_stub", False) and kept is not None
        # The library gives the same tuple for the same name of a kept tree.
        if not is_of_stub or self._until_position is not None or not isinstance(names, tuple):
            return list(slow(self, names))
        key = type(self), self._parser_scope, names
        remembered = _HELD.setdefault(kept, {})
        if key not in remembered:
            found = list(slow(self, names))
            if not _is_plain(self, names):
                return found
            remembered[key] = found
        return list(remembered[key])

    return held


def _is_plain(names_of: Any, names: Sequence[Any]) -> bool:
    """Whether no definition stands under a condition."""
    from jedi.parser_utils import get_parent_scope

    scope = names_of._parser_scope
    reachable = (name for name in names if names_of._is_name_reachable(name))
    return all(get_parent_scope(name, include_flows=True) == scope for name in reachable)


def _assigns(module: Any) -> bool:
    """Whether there may be an assignment to an attribute in a module; it is looked for in stubs."""
    kept, is_stub = _tree(module)
    if kept is None or not is_stub:
        return True
    remembered = _HELD.setdefault(kept, {})
    if _ASSIGNS not in remembered:
        remembered[_ASSIGNS] = any(
            name.parent.type == "trailer" and name.is_definition()
            for names in module.tree_node.get_used_names().values()
            for name in names
        )
    return bool(remembered[_ASSIGNS])


_ASSIGNS = ("assigns",)


def _tree(module: Any) -> tuple[Any, bool]:
    from jedi.parser_utils import get_parso_cache_node

    tree = module.tree_node
    if tree not in _TREES:
        path, state, is_stub = module.py__file__(), module.inference_state, module.is_stub()
        grammar = state.latest_grammar if is_stub else state.grammar
        _TREES[tree] = None if path is None else get_parso_cache_node(grammar, path), is_stub
    return _TREES[tree]
