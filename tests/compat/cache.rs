//! The cache: keys, policies, what is archived and restored.
