"""``qkt demo``: a bot's bad night on a simulated Bybit, and a judge who was not part of it.

`story` makes things happen and waits; `telling` puts each event into words with how long it took to be known;
`judge` compares everything the bot heard and believes with the venue's own record, and knows neither of the two;
`sabotage` swaps a naive rule into this process, to show that the judge can say no.
"""
