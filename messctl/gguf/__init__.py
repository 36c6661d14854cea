"""The header of a GGUF file: the kind of model, its size, and the memory that it needs.

Every model file is checked here before llama.cpp gets it. The reader trusts no count in the file and reads only what it
needs. The `gguf` package's own reader takes ten seconds for a vocabulary of 150,000 tokens, and runs out of memory if
the length of an array is absurd.
"""

from messctl.gguf.file import read_part
from messctl.gguf.header import Header, header_of, read_header
from messctl.gguf.purpose import other_purpose

__all__ = ["Header", "header_of", "other_purpose", "read_header", "read_part"]
