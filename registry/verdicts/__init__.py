"""Gates, their bounds and measurements, and the verdict that an approval names."""
