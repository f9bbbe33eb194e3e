"""Volume files of other programs (NIfTI, NRRD, MetaImage), read in a child process with limits."""
