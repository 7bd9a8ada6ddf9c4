"""Dialects: what the providers' wire formats mean. Pure; one file per dialect. `openai` is the one spoken so far."""
