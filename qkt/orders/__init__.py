"""The heart, pure: facts go in, the next order and its events come out. No I/O, no thread, no clock."""
