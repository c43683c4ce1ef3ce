"""Image data sets: files, decoding, crops, annotations."""
