"""What a running server really does, asked from outside and compared with the decision."""
