"""Revisions n.r, the immutable sets that ledger entries name: described, kept, opened, compared with what was recorded."""
