"""Attacks, by the doors that strangers have: each with its answer, and nothing left behind."""
