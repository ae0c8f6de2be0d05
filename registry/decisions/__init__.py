"""What people decide, carried out: approve, reject, promote, roll back, accept a loss."""
