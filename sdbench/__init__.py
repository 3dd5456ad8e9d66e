"""sdbench: what does feedback do to self-distillation?

An evaluation harness and benchmark suite with a training backend. A solver language model is
trained under conditions that differ in nothing but the feedback (`grpo`, `reference`, `critique`);
each checkpoint is sampled k times a problem, graded, scored with intervals and compared.
"""

__version__ = "0.1.0"
