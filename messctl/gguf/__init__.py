"""The header of a GGUF file: what the model is, how large it is, and what it will need.

Whatever reads a model file, or gives one to llama.cpp, comes through here first. The walk reads only what it needs
and trusts no count that the file states: the `gguf` package's own reader takes ten seconds over a vocabulary of
150,000 tokens, and runs out of memory over an absurd array length.
"""

from messctl.gguf.header import Header, read_header

__all__ = ["Header", "read_header"]
