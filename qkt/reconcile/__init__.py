"""What a round of reading means: typed reads, questions instead of guesses, and a report. Pure."""
