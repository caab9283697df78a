"""What was ordered and what was done, for courts, regulators and the operator: values first, then texts of them."""
