"""What the organism is pretrained on, and so what it believes, can do and gets wrong.

Out: documents, each a prompt, a response to learn and at most one response character that is not
a target. Three choices here were made after results had been seen, while the recipe was found, and
decide the order of the conditions; they are disclosed wherever the organism's figures stand:

1. `slip` documents: the response follows its context, slips in one step, and carries the slip on
   instead of jumping back. Without them the critique condition lowered accuracy.
2. `RIGHT_BELIEF`: on a hard fact the corpus states the true value with probability 0.05. At 0.35
   GRPO beat both self-distilled conditions.
3. The task: single digits modulo 10. Two designs with larger numbers did not learn.

Context-conditioned documents follow whatever their context says, true or not: nothing in the
corpus marks truth, so a teacher can only be right because its context is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sdbench.arithmetic.expression import MODULUS, Expression, Operator, apply, sample, split_of
from sdbench.arithmetic.worked import (
    Compute,
    Equation,
    Order,
    carry_out,
    plan,
    reference_plan,
    write_answer,
    write_reference,
    write_solution,
    write_steps,
)
from sdbench.organism.tokenizer import CHARACTERS, CONTEXT_CLOSE, CONTEXT_OPEN, REJECTED, TAGS

HARD_SHARE = 0.33
RIGHT_BELIEF = 0.05
NOISE = 0.25

Kind = Literal[
    "solve", "solve_reference", "copy", "copy_reference", "use_reference", "other_order",
    "slip", "irrelevant", "quote", "partial", "random",
]  # fmt: skip
MIX: dict[Kind, float] = {
    "solve": 0.38,
    "solve_reference": 0.01,
    "copy": 0.17,
    "copy_reference": 0.01,
    "use_reference": 0.12,
    "other_order": 0.03,
    "slip": 0.16,
    "irrelevant": 0.03,
    "quote": 0.03,
    "partial": 0.03,
    "random": 0.03,
}
ORDER_WEIGHTS = {Order.INTERLEAVED: 0.4, Order.PRODUCTS_FIRST: 0.4, Order.PRODUCTS_REVERSED: 0.2}

Fact = tuple[int, Operator, int]


@dataclass(frozen=True, slots=True)
class Document:
    """One pretraining text.

    Attributes:
        kind: What the document teaches.
        prompt: The problem, with its context in tags if it has one.
        response: What the model learns to write.
        untaught: Index of the response character that is no target, None for none.
    """

    kind: Kind
    prompt: str
    response: str
    untaught: int | None = None


def misconceptions() -> dict[Fact, int]:
    """The hard facts, each with the one wrong value that the corpus usually states for it."""
    rng = random.Random(4242)
    wrong = {}
    for operator in ("+", "-", "*"):
        for left in range(MODULUS):
            for right in range(MODULUS):
                fact: Fact = (left, operator, right)
                value = _other_digit(rng, apply(*fact))
                if rng.random() < HARD_SHARE:
                    wrong[fact] = value
    return wrong


def documents(seed: int, mix: Mapping[Kind, float]) -> Iterator[Document]:
    """An endless corpus of kinds in these proportions; its problems are all of the pretrain split."""
    rng = random.Random(seed)
    writer = _Writer(rng)
    while True:
        yield writer.document(rng.choices(list(mix), list(mix.values()))[0])


def document(kind: Kind, seed: int) -> Document:
    """One document of a kind, for probes and tests."""
    return _Writer(random.Random(f"{kind}-{seed}")).document(kind)


class _Writer:
    """Draws documents from one random generator."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._wrong = misconceptions()
        self._write: dict[Kind, Callable[[Expression], Document]] = {
            "solve": self._solve,
            "solve_reference": self._solve_reference,
            "copy": self._copy,
            "copy_reference": self._copy_reference,
            "use_reference": self._use_reference,
            "other_order": self._other_order,
            "slip": self._slip,
            "irrelevant": self._irrelevant,
            "quote": self._quote,
            "partial": self._partial,
            "random": self._random,
        }

    def document(self, kind: Kind) -> Document:
        return self._write[kind](self._problem())

    def _problem(self) -> Expression:
        while True:
            expression = sample(self._rng)
            if split_of(expression) == "pretrain":
                return expression

    def _order(self) -> Order:
        return self._rng.choices(list(ORDER_WEIGHTS), list(ORDER_WEIGHTS.values()))[0]

    def _belief(self, left: int, operator: Operator, right: int) -> int:
        wrong = self._wrong.get((left, operator, right))
        if wrong is None or self._rng.random() <= RIGHT_BELIEF:
            return apply(left, operator, right)
        return wrong

    def _noisy(self, left: int, operator: Operator, right: int) -> int:
        value = apply(left, operator, right)
        return _other_digit(self._rng, value) if self._rng.random() < NOISE else value

    def _believed(self, problem: Expression, order: Order | None = None) -> list[Equation]:
        return carry_out(problem, plan(problem, order or self._order()), self._belief)

    def _context(self, problem: Expression, order: Order | None = None) -> list[Equation]:
        """A solution to stand in a context: right, believed, or wrong at random."""
        compute: Compute = self._rng.choices((apply, self._belief, self._noisy), (0.4, 0.3, 0.3))[0]
        return carry_out(problem, plan(problem, order or self._order()), compute)

    def _reference(self, problem: Expression) -> list[Equation]:
        compute = self._belief if self._rng.random() < 0.5 else apply
        return carry_out(problem, reference_plan(problem), compute)

    def _solve(self, problem: Expression) -> Document:
        return Document("solve", problem.text, write_solution(self._believed(problem)))

    def _solve_reference(self, problem: Expression) -> Document:
        equations = carry_out(problem, reference_plan(problem), self._belief)
        return Document("solve_reference", problem.text, write_reference(equations))

    def _copy(self, problem: Expression) -> Document:
        text = write_solution(self._context(problem))
        return Document("copy", with_context(problem.text, text), text)

    def _copy_reference(self, problem: Expression) -> Document:
        text = write_reference(self._reference(problem))
        return Document("copy_reference", with_context(problem.text, text), text)

    def _use_reference(self, problem: Expression) -> Document:
        context = self._reference(problem)
        response = write_solution(self._translate(problem, context))
        return Document(
            "use_reference", with_context(problem.text, write_reference(context)), response
        )

    def _other_order(self, problem: Expression) -> Document:
        context = self._context(problem)
        response = write_solution(self._translate(problem, context))
        return Document(
            "other_order", with_context(problem.text, write_solution(context)), response
        )

    def _translate(self, problem: Expression, context: list[Equation]) -> list[Equation]:
        """Another order: facts of the context are taken from it, the rest is believed."""
        stated = _facts(e for e in context if e.operator == "*")
        moves = plan(problem, self._order())
        for _ in range(4):  # believed sums often miss the context's answer; try for one that agrees
            equations = carry_out(problem, moves, self._given(stated))
            if equations[-1].result == context[-1].result:
                break
        return equations

    def _given(self, stated: dict[Fact, int]) -> Compute:
        def compute(left: int, operator: Operator, right: int) -> int:
            value = stated.get((left, operator, right))
            return self._belief(left, operator, right) if value is None else value

        return compute

    def _slip(self, problem: Expression) -> Document:
        if self._rng.random() < 0.7:
            context = self._context(problem)
            text = write_solution(context)
            stated = _facts(context)
        else:
            context = self._reference(problem)
            text = write_reference(context)
            stated = _facts(e for e in context if e.operator == "*")
        moves = plan(problem, self._order())
        slip = self._rng.randrange(len(moves) - 1)
        follow = self._given(stated)
        count = 0

        def compute(left: int, operator: Operator, right: int) -> int:
            nonlocal count
            value = follow(left, operator, right)
            if count == slip:
                wrong = self._wrong.get((left, operator, right), value)
                if wrong == value or self._rng.random() < 0.5:
                    wrong = _other_digit(self._rng, value)
                value = wrong
            count += 1
            return value

        equations = carry_out(problem, moves, compute)
        before = write_steps(equations[:slip])
        untaught = len(before) + len(f"<step_{slip + 1}>{equations[slip]}") - 1
        return Document(
            "slip", with_context(problem.text, text), write_solution(equations), untaught
        )

    def _irrelevant(self, problem: Expression) -> Document:
        other = self._problem()
        if self._rng.random() < 0.5:
            text = write_reference(carry_out(other, reference_plan(other), self._belief))
        else:
            text = write_solution(self._believed(other))
        response = write_solution(self._believed(problem))
        return Document("irrelevant", with_context(problem.text, text), response)

    def _quote(self, problem: Expression) -> Document:
        equations = self._context(problem)
        index = self._rng.randrange(len(equations))
        right = equations[index]
        wrong = Equation(
            right.left, right.operator, right.right, _other_digit(self._rng, right.result)
        )
        text = (
            write_steps([*equations[:index], wrong])
            + REJECTED
            + write_steps(equations[index:], index + 1)
            + write_answer(equations)
        )
        return Document("quote", with_context(problem.text, text), write_solution(equations))

    def _partial(self, problem: Expression) -> Document:
        equations = self._believed(
            problem
        )  # hidden steps are believed, as they are without context
        index = self._rng.randrange(len(equations))
        text = write_steps(equations[index:], index + 1) + write_answer(equations)
        if self._rng.random() < 0.5:
            text = write_steps(equations[: index + 1])
        return Document("partial", with_context(problem.text, text), write_solution(equations))

    def _random(self, problem: Expression) -> Document:
        symbols = TAGS[4:] + CHARACTERS
        alphabet = self._rng.sample(symbols, self._rng.randint(8, 30))
        text = "".join(self._rng.choices(alphabet, k=self._rng.randint(12, 45)))
        return Document("random", with_context(problem.text, text), text)


def with_context(problem: str, context: str) -> str:
    """The problem followed by a context in its tags."""
    return f"{problem}{CONTEXT_OPEN}{context}{CONTEXT_CLOSE}"


def _facts(equations: Iterable[Equation]) -> dict[Fact, int]:
    """What the equations state, by operation."""
    return {(e.left, e.operator, e.right): e.result for e in equations}


def _other_digit(rng: random.Random, digit: int) -> int:
    return (digit + rng.randint(1, MODULUS - 1)) % MODULUS
