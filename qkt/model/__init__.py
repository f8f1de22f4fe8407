"""The nouns of the field, as frozen values: orders, executions, balances, positions, instruments."""
