"""A model that stays loaded, for several runs: `t2i serve`, and the side of `t2i sample` that asks it.

server.py       one model, orders one after the other
client.py       draws by a server that draws the same to the bit; identity.py: what both must share for that
wire.py         what goes between them; orders.py: an order as JSON
address.py      where a server listens
"""
