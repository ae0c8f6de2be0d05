"""Arrays that come in and go out: vectors, columns, texts, digests and whole files."""
