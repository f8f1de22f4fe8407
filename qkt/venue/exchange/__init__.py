"""The exchange without I/O and threads: books, matching, orders, wallets, queries. Clock and seed are arguments."""
