"""Perpetual contracts: positions, margin, funding, protection and liquidation on top of the matching engine."""
