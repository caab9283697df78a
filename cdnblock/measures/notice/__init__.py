"""What the 451 notice says and how: contents, wording in each language, three forms, and the choice between them."""
