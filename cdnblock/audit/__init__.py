"""What was done, for whom to see: records in a hash chain, one folder per process."""
