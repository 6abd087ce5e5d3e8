"""The formats of an export: each one's file, and what it is. The first is always made; the others are made of it."""

from __future__ import annotations

FORMATS = {
    "jsonl": ("judgements.jsonl.gz", "JSON lines, packed with gzip: the file that all others are made of"),
    "csv": ("judgements.csv", "CSV for spreadsheets and statistics programs"),
    "parquet": ("judgements.parquet", "Parquet, with types and meanings of the columns"),
    "web-annotation": ("annotations.jsonld", "W3C Web Annotations (JSON-LD), with marked parts as media fragments"),
    "label-studio": ("label-studio.json", "Label Studio's JSON; label-studio.xml is the labelling setup for it"),
}
