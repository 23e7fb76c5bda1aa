"""Mutation testing: small faults are planted into the code, one at a time, and each has to make a test fail."""
