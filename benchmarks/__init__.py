"""The commands compare, train and evaluate; statistics and reports."""
