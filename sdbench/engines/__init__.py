"""Who writes completions: one module an engine."""
