"""What one program imports, inferred once for all questions about it."""

from __future__ import annotations

from typing import Any


class Library:
    """Modules that were imported for one `jedi.Script`, lent to the next one of the same program.

    Every script infers what it imports anew: bases of classes, types of what functions return. Of
    modules in files that is the same for each question, and a value keeps all that was inferred of
    it. A module that imports the program itself sees it as it was at the first question.
    """

    def __init__(self) -> None:
        self._modules: dict[tuple[str, ...], Any] = {}
        self._stubs: dict[tuple[str, ...], Any] = {}
        self._states: list[Any] = []

    def lend(self, script: Any) -> None:
        """Let `script`, which has not been asked yet, find the modules."""
        for state in self._states:
            # The library counts inferences to find the ones that never end; each question anew.
            state.inferred_element_counts.clear()
            state.reset_recursion_limitations()
        own = script._inference_state
        own.module_cache._name_cache.update(self._modules)
        own.stub_module_cache.update(self._stubs)

    def take(self, script: Any) -> None:
        """Keep the modules that `script` has imported."""
        own, state = script._get_module(), script._inference_state
        n_known = len(self._modules)
        for name, modules in state.module_cache._name_cache.items():
            if all(module is not own for module in modules):
                self._modules.setdefault(name, modules)
        self._stubs |= state.stub_module_cache
        if len(self._modules) > n_known:
            self._states.append(state)
