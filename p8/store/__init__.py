"""Where sessions are kept: an append-only journal first, a SQLite database folded from it behind.

manager.py     PersistenceManager, the one door to this room
journal.py     the writer: one line, one write; the barrier
segments.py    reading journal files, also those of dead processes
fold.py        moves lines into the database, in order, once
sqlite.py      connections, pragmas, the version gate
schema.py      tables; migrations.py changes them
sessions.py    lists and transcripts   search.py   full text   leases.py   who may write
pack.py        compresses what is closed   repair.py   saves what a damaged database still holds
"""
