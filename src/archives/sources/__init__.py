"""Where archives come from: the ssh host, the staging directory they are fetched to, and the list of those taken."""
