"""The organism's world: one-line expressions over single digits, worked out modulo 10.

`expression` says what a problem is and which split it belongs to, `worked` carries out and writes
solutions in two notations, `checker` finds the first wrong step of a written trace. Standard library
only: the task, the oracle critic and the pretraining corpus all stand on it.
"""
