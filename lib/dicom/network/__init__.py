"""DICOM on the network (DIMSE): a storage server that limits what a peer can cost, and a client."""
