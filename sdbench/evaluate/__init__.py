"""Sampling checkpoints, grading and scoring them, selecting one."""
