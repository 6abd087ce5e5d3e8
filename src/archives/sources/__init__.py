"""Sources of archives: the ssh host, the staging directory for fetched archives, and the list of taken archives."""
