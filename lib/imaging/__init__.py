"""Arrays that know where they are and in what unit."""
