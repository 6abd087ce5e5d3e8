"""Accounts, roles, links, single sign-on, and the limit on log-ins."""
