"""Studies: which clips they have, who labels them, how far they are."""
