"""What a study found: judgements, agreement, decisions, and the classifier against people."""
