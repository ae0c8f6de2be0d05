"""Exported programs: read by the project's own reader, run sealed until a person has approved them."""
