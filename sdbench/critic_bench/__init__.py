"""The critic benchmark: how well a critic finds the first wrong step of traces of which it is known.

`marked` has the traces with what is known of them, `score` the scores and the controls, `run` asks a
critic and keeps what it says, `tables` and `page` make the report. Benchmarks meet the report in their
folders and nowhere else.
"""
