"""Deleting labels and erasing clips, each with a receipt."""
