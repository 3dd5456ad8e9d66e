"""The grader: one truth for the training reward, the evaluation and the task files.

In: responses with right answers. Out: a `Verdict` each. `extract` finds the final answer in a
response, `exact` decides plain numbers and words at once, `symbolic` asks math-verify in a worker
process that can be killed, `grader` puts them in that order.
"""

from sdbench.grading.exact import canonical
from sdbench.grading.extract import extract_answer
from sdbench.grading.grader import Answer, Grader

__all__ = ["Answer", "Grader", "canonical", "extract_answer"]
