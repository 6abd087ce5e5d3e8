"""The models on disk: the files of each set, how to fetch them, and how to check that they are complete.

`src/models.toml` lists the sets. Imports only `errors` of the pipeline, except `__main__`, which imports `cli`.
"""
