"""Frozen values that every layer shares: orders, executions, balances, positions, instruments, ownership."""
