"""What the solver is trained on: one module a condition."""
