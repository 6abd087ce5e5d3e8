"""Work on the content policies: lint, test, calibrate, compare two versions, and score stored transcripts again.

Imports `moderation` and `models` for policies and scorers, and `db` for the stored transcripts. `audio-pipeline policy`
is its command line.
"""
