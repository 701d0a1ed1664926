"""Small records that usage-explore keeps for its users, apart from the events: saved views.

`tables` declares the tables, once for both databases; `places` is where they are: beside the events in PostgreSQL,
else in an SQLite file of the data folder; `views` makes, lists and changes the records. Every row belongs to one
organization. The events stay READ ONLY: records are written in transactions of their own, in which only statements on
these tables run.
"""
