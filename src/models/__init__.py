"""The models on disk: which files a set consists of, fetching them, and the check that they are whole.

`src/models.toml` is the list. Imports nothing of the pipeline but `errors`.
"""
