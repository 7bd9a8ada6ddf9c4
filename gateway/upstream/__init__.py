"""Upstreams: `pool` calls them, `deadline` bounds the waiting. (Health, retries and hedging get files of their own.)"""
