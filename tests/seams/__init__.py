"""What a new row of a table takes, tried with rows of the tests' own."""
