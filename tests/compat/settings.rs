//! The fleet's settings that GitLab Runner has in its config.toml.
