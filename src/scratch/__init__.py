"""A batch's directory on this host's scratch volume, and the files of clips in it.

Every removal of a batch's directory is here. Imports `jobs` for the rule of batch ids.
"""
