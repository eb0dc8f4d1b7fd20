"""A pure, seeded simulator of card transactions and of the fraud among them.

`world.WorldSpec` says how large the world is and how much fraud it sees; `stream.Simulation` draws
its days as `stream.Batch` columns, which render as documents of the schemas. There is no clock, no
file and no network here: the same specification gives the same bytes.
"""
