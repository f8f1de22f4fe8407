"""The pure exchange: books, matching, orders, wallets, queries. No I/O, no threads; time and chance come in."""
