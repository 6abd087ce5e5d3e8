"""A reviewer's work: claims, drafts, labels, lists, and the record of it."""
