r"""The grader: one truth for the training reward, the evaluation and the task files.

In: responses with right answers. Out: a `Verdict` each. `extract` finds the final answer in a
response, `notation` spells it in one way, `exact` decides numbers, units, words and options at
once. What that leaves open goes to worker processes that can be killed (`pool`, `worker`), where
`forms` reads the structure of an answer, `equivalence` and `real_sets` compare it, and `algebra`
compares expressions with math-verify's parser.

Where the verdicts depart from math-verify 0.9.0, and why, is said in each module. In short: its
parser is used, its search for answers and its comparison of numbers are not; units, options, times,
bases, residues, ratios and vectors have rules of their own; nothing is rounded to 6 decimals.

All of `tests/golden/grading_cases.jsonl` is met. What the rules knowingly leave out: currencies and
scales of temperature are not converted; "3 feet 4 inches" is not read as one length; the parameter
of a family keeps its name unless both sides call it an integer, so k\pi and n\pi differ; two
decimals with commas are a list.
"""

from sdbench.grading.exact import canonical
from sdbench.grading.extract import extract_answer
from sdbench.grading.grader import Answer, Grader

__all__ = ["Answer", "Grader", "canonical", "extract_answer"]
