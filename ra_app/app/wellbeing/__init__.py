"""What protects people from the clips."""
