"""``qkt demo``: a bot on a simulated Bybit through outages, checked at the end by an independent judge.

`scenario` causes the faults and waits; `narrator` prints each event with the delay until it was known; `judge` compares
everything the bot received and believes with the venue's own record and imports neither of the two; `sabotage`
replaces a rule of qkt by a naive one, to show that the judge can fail.
"""
