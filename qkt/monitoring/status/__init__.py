"""Status page: one screen that says what is known and how old it is, served read-only on loopback."""
