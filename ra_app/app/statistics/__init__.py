"""Numbers for a study: agreement of coders, precision and recall of the classifier, and how much to review.

Pure functions on plain data: no Flask, no database, no package besides Python's own. docs/statistics.md says what each
number means and why its interval was chosen; `python -m bench.coverage` simulates how often the intervals hold.
"""
