"""Volume files (NIfTI, NRRD, MetaImage), read in a child process with limits on memory and time."""
