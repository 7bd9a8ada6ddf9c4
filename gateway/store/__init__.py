"""Where receipts, keys and budgets are kept: SQLite, or PostgreSQL where several nodes share it."""
