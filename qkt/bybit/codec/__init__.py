"""Between Bybit's JSON and qkt's values, both ways: the only rooms where JSON has no type yet."""
