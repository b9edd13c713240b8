"""The rooms of a tick: what is seen, what follows, what is ordered. hpc/scheduler.py is the page that leads through."""
