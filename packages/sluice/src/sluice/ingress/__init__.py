"""What users reach."""
