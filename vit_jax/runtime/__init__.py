"""What a program is to the machine that it runs on: memory, caches, processes, signals, its end."""
