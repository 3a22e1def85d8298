//! Nothing of its own: a lock file for `kryoptic`, whose module `../build` builds.
