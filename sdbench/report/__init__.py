"""The comparison of runs and its report: one data file, rendered as HTML, Markdown and CSV."""
