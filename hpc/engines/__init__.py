"""Speech to text: each engine runs in a child process of the worker."""
