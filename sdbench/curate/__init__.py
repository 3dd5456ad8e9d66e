"""Which problems a study works on: filtered, split, and looked through for duplicates.

In: tasks, and models for the filter. Out: a folder with the problems that a filter keeps, a split file
that a suite can name, and a report on near-duplicates. `command` is `sdbench data`, `filter`, `split`
and `duplicates` are its three parts.
"""
