"""The model card, written by the run itself: nobody has to remember how the weights came about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rag.train.loop import Outcome


class DataFacts(msgspec.Struct, frozen=True):
    """One set: its name, folder and split, what was read of it, and the digest of its files."""

    name: str
    origin: str
    n_questions: int
    n_documents: int
    sha256: str


class RunFacts(msgspec.Struct, frozen=True):
    """What made the weights. `recipe` is all of it, defaults too; `base` the model begun with."""

    title: str
    command: str
    recipe_name: str
    recipe: Any
    seed: int
    base: str
    base_sha256: str
    base_licence: str
    machine: str
    data: Sequence[DataFacts]
    dev: Sequence[str]
    use: str
    tags: tuple[str, ...] = ("sparse-retrieval",)


def model_card(facts: RunFacts, outcome: Outcome) -> str:
    """A README with the metadata that model hubs read."""
    recipe = msgspec.json.format(msgspec.json.encode(facts.recipe)).decode()
    minutes = (outcome.train_s + outcome.measure_s) / 60
    sittings = f"{outcome.sittings} sitting{'s' if outcome.sittings > 1 else ''}"
    licence = facts.base_licence.lower()
    return f"""---
base_model: {facts.base}
license: {licence}
tags: [{", ".join(facts.tags)}]
---

# {facts.title}

Trained from `{facts.base}` (weights {facts.base_sha256[:16]}) by

    {facts.command}

with recipe `{facts.recipe_name}`, seed {facts.seed}.

## Use

{facts.use}

## Scores

{_scores(outcome)}

Measured on {"; ".join(facts.dev) or "nothing"}. None of these questions was trained on; the state
that was kept was picked by the first line, so it is slightly flattered.

## Data

{_data(facts.data)}

## Cost

{outcome.n_steps} steps{_of_how_many(facts, outcome)} in {minutes:.1f} minutes
({outcome.train_s / 60:.1f} training, {outcome.measure_s / 60:.1f} measuring), {sittings}, on
{facts.machine}.

## Curves

`curve.jsonl` has every step, `curves.svg` shows them.

## Recipe

```json
{recipe}
```
"""


def _of_how_many(facts: RunFacts, outcome: Outcome) -> str:
    """The recipe's number of steps where the run was ended before, its learning rate still up."""
    planned = facts.recipe.loop.n_steps
    return "" if outcome.n_steps == planned else f" of the recipe's {planned}"


def _scores(outcome: Outcome) -> str:
    if outcome.best is None:
        return "Nothing was measured; the last state was kept."
    step = outcome.best.step
    rows = ["| measure | before | after |", "|---|---|---|"]
    for name, after in outcome.best.measures.items():
        rows.append(f"| {name} | {outcome.first.get(name, float('nan')):.4f} | {after:.4f} |")
    kept = "the state before training: none was better" if not step else f"step {step}"
    return "\n".join([*rows, "", f"Kept: {kept}, of {outcome.n_steps}."])


def _data(data: Sequence[DataFacts]) -> str:
    rows = ["| set | from | questions | documents | SHA-256 |", "|---|---|---|---|---|"]
    rows += [
        f"| {one.name} | {one.origin} | {one.n_questions} | {one.n_documents} | {one.sha256} |"
        for one in data
    ]
    return "\n".join(rows)
