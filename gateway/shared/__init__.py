"""What several nodes share through Redis: limits and budgets that hold for all of them together."""
