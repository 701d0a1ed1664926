"""Small records that usage-explore keeps for its users, apart from the events.

They are saved views, short links, decisions on findings, runs of validations and sign-offs. `tables` declares their
tables, once for both databases; `places` is where they are: beside the events in PostgreSQL, else in an SQLite file of
the data folder. `views`, `links`, `decisions`, `runs` and `signoffs` make and read the records; `identities` matches
the findings of several runs. Every row belongs to one organization. The events stay READ ONLY: records are written in
transactions of their own, in which only statements on one of these tables run.
"""
