"""Dialects: what the wire formats of callers and providers mean. Pure; a package for each, none knows another."""
