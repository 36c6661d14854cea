"""The library: what a program or a notebook calls, and the commands, too. `messctl` has its names."""
