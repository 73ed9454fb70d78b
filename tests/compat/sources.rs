//! Getting sources: strategies, submodules, LFS, certificates.
