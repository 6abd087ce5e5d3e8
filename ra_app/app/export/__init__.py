"""Exports: named snapshots of judgements as files, for analysis and for other tools.

`columns` says what a row holds; `bounds` fixes a snapshot; `canonical` writes its rows. All formats are made of that
file: `tables` makes CSV and Parquet, `web_annotation` and `label_studio` the others. `dictionary` writes what explains
them. `build` makes the folder of one export, `jobs` keeps who works on what, `worker` is the process that does it.
"""
