"""Differential fuzzing: both programs and the model, one packet at a time (`make fuzz`)."""
